"""From SQL text to a typed query: what a statement may hold, which names it means, what its expressions are."""
