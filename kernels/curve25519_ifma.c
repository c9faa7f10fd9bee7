/* The curve kernel on AVX512-IFMA: eight points at a time. Not written yet: never supported. */
#include "curve25519.h"

static int supported(void)
{
    return 0;
}

const variant curve25519_ifma = { supported, 0, 0, 0, 0, 0 };
