/* hash_to_field of RFC 9380 for LANES items at a time: expand_message_xmd with SHA-512, L = 48, count 1.
 *
 * A variant's C file defines before: LANES, FAST, `vec` (LANES words of 64 bits) and the macros V_ADD, V_XOR3, V_CH
 * (e ? f : g), V_MAJ, V_ROR, V_SHR, V_ALL (one word in all lanes), V_LOAD, V_STORE, V_KEEP (old where a bit of the
 * mask is clear). Items of different length run together: a lane whose message has ended keeps its state. So the time
 * depends on the items' lengths, never on their bytes.
 * Sources: FIPS 180-4 section 6.4; RFC 9380 sections 5.2 and 5.3.1.
 */
#define SHA_BLOCK 128

static const u64 sha_k[80] = {
    0x428a2f98d728ae22, 0x7137449123ef65cd, 0xb5c0fbcfec4d3b2f, 0xe9b5dba58189dbbc,
    0x3956c25bf348b538, 0x59f111f1b605d019, 0x923f82a4af194f9b, 0xab1c5ed5da6d8118,
    0xd807aa98a3030242, 0x12835b0145706fbe, 0x243185be4ee4b28c, 0x550c7dc3d5ffb4e2,
    0x72be5d74f27b896f, 0x80deb1fe3b1696b1, 0x9bdc06a725c71235, 0xc19bf174cf692694,
    0xe49b69c19ef14ad2, 0xefbe4786384f25e3, 0x0fc19dc68b8cd5b5, 0x240ca1cc77ac9c65,
    0x2de92c6f592b0275, 0x4a7484aa6ea6e483, 0x5cb0a9dcbd41fbd4, 0x76f988da831153b5,
    0x983e5152ee66dfab, 0xa831c66d2db43210, 0xb00327c898fb213f, 0xbf597fc7beef0ee4,
    0xc6e00bf33da88fc2, 0xd5a79147930aa725, 0x06ca6351e003826f, 0x142929670a0e6e70,
    0x27b70a8546d22ffc, 0x2e1b21385c26c926, 0x4d2c6dfc5ac42aed, 0x53380d139d95b3df,
    0x650a73548baf63de, 0x766a0abb3c77b2a8, 0x81c2c92e47edaee6, 0x92722c851482353b,
    0xa2bfe8a14cf10364, 0xa81a664bbc423001, 0xc24b8b70d0f89791, 0xc76c51a30654be30,
    0xd192e819d6ef5218, 0xd69906245565a910, 0xf40e35855771202a, 0x106aa07032bbd1b8,
    0x19a4c116b8d2d0c8, 0x1e376c085141ab53, 0x2748774cdf8eeb99, 0x34b0bcb5e19b48a8,
    0x391c0cb3c5c95a63, 0x4ed8aa4ae3418acb, 0x5b9cca4f7763e373, 0x682e6ff3d6b2b8a3,
    0x748f82ee5defb2fc, 0x78a5636f43172f60, 0x84c87814a1f0ab72, 0x8cc702081a6439ec,
    0x90befffa23631e28, 0xa4506cebde82bde9, 0xbef9a3f7b2c67915, 0xc67178f2e372532b,
    0xca273eceea26619c, 0xd186b8c721c0c207, 0xeada7dd6cde0eb1e, 0xf57d4f7fee6ed178,
    0x06f067aa72176fba, 0x0a637dc5a2c898a6, 0x113f9804bef90dae, 0x1b710b35131c471b,
    0x28db77f523047d84, 0x32caab7b40c72493, 0x3c9ebe0a15c9bebc, 0x431d67c49c100d4c,
    0x4cc5d4becb3e42b6, 0x597f299cfc657e2a, 0x5fcb6fab3ad6faec, 0x6c44198c4a475817,
};

static const u64 sha_start[8] = {
    0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
    0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
};

typedef struct { u64 state[8]; } hash_start; /* after the block of zeros that every message begins with */

FAST static void sha_compress(vec state[8], vec w[16])
{
    vec a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
    for (int t = 0; t < 80; t += 16) {
#define ROUND(i, a, b, c, d, e, f, g, h)                                                                               \
    do {                                                                                                               \
        const vec first = V_ADD(V_ADD(V_ADD(h, V_ALL(sha_k[t + i])), w[i]),                                            \
                                V_ADD(V_XOR3(V_ROR(e, 14), V_ROR(e, 18), V_ROR(e, 41)), V_CH(e, f, g)));               \
        d = V_ADD(d, first);                                                                                           \
        h = V_ADD(first, V_ADD(V_XOR3(V_ROR(a, 28), V_ROR(a, 34), V_ROR(a, 39)), V_MAJ(a, b, c)));                     \
        if (t < 64) {                                                                                                  \
            const vec early = w[(i + 1) % 16], late = w[(i + 14) % 16];                                                \
            w[i] = V_ADD(V_ADD(w[i], w[(i + 9) % 16]),                                                                 \
                         V_ADD(V_XOR3(V_ROR(early, 1), V_ROR(early, 8), V_SHR(early, 7)),                              \
                               V_XOR3(V_ROR(late, 19), V_ROR(late, 61), V_SHR(late, 6))));                             \
        }                                                                                                              \
    } while (0)
        ROUND(0, a, b, c, d, e, f, g, h);
        ROUND(1, h, a, b, c, d, e, f, g);
        ROUND(2, g, h, a, b, c, d, e, f);
        ROUND(3, f, g, h, a, b, c, d, e);
        ROUND(4, e, f, g, h, a, b, c, d);
        ROUND(5, d, e, f, g, h, a, b, c);
        ROUND(6, c, d, e, f, g, h, a, b);
        ROUND(7, b, c, d, e, f, g, h, a);
        ROUND(8, a, b, c, d, e, f, g, h);
        ROUND(9, h, a, b, c, d, e, f, g);
        ROUND(10, g, h, a, b, c, d, e, f);
        ROUND(11, f, g, h, a, b, c, d, e);
        ROUND(12, e, f, g, h, a, b, c, d);
        ROUND(13, d, e, f, g, h, a, b, c);
        ROUND(14, c, d, e, f, g, h, a, b);
        ROUND(15, b, c, d, e, f, g, h, a);
#undef ROUND
    }
    const vec after[8] = { a, b, c, d, e, f, g, h };
    for (int i = 0; i < 8; i++)
        state[i] = V_ADD(state[i], after[i]);
}

FAST static void hash_begin(hash_start *start, const items *from)
{
    vec state[8], w[16];
    u64 lanes[LANES];
    (void)from;
    for (int i = 0; i < 8; i++)
        state[i] = V_ALL(sha_start[i]);
    for (int i = 0; i < 16; i++)
        w[i] = V_ALL(0);
    sha_compress(state, w);
    for (int i = 0; i < 8; i++) {
        V_STORE(lanes, state[i]);
        start->state[i] = lanes[0];
    }
}

/* the part of a piece, which begins at `start` of the message, that falls into the block [at, at + SHA_BLOCK) */
static inline void put(u8 block[SHA_BLOCK], size_t at, const u8 *piece, size_t start, size_t size)
{
    const size_t from = at > start ? at : start, end = start + size < at + SHA_BLOCK ? start + size : at + SHA_BLOCK;
    if (from < end)
        memcpy(block + (from - at), piece + (from - start), end - from);
}

/* padding after `size` bytes, of which this is the block at `at`; `hashed` bytes stood before all of it */
static inline void put_end(u8 block[SHA_BLOCK], size_t at, size_t size, size_t hashed)
{
    if (size >= at && size < at + SHA_BLOCK)
        block[size - at] = 0x80;
    if (size + 17 <= at + SHA_BLOCK)
        for (int i = 0; i < 8; i++)
            block[SHA_BLOCK - 1 - i] = (u8)((u64)(size + hashed) * 8 >> (8 * i));
}

static inline u64 big_endian(const u8 *at)
{
    u64 x = 0;
    for (int i = 0; i < 8; i++)
        x = x << 8 | at[i];
    return x;
}

/* r of the items first, first + 1, ... below n, in limbs below 2^51 + 2^17; lanes after the last hold the last one's */
FAST static void hash_to_field(lanes51 *out, const hash_start *start, const items *from, size_t first, size_t n)
{
    static const u8 middle[3] = { 0, 48, 0 }, one[1] = { 1 };
    vec state[8], kept[8], w[16];
    u8 block[LANES][SHA_BLOCK];
    u64 words[16][LANES];
    const u8 *text[LANES];
    size_t size[LANES], blocks[LANES], most = 0;

    for (size_t lane = 0; lane < LANES; lane++) {
        const size_t at = first + lane < n ? first + lane : n - 1;
        text[lane] = from->data + from->offsets[at];
        size[lane] = (size_t)(from->offsets[at + 1] - from->offsets[at]);
        blocks[lane] = (size[lane] + sizeof middle + from->tag_size + 17 + SHA_BLOCK - 1) / SHA_BLOCK;
        most = blocks[lane] > most ? blocks[lane] : most;
    }
    /* b_0 = H(zeros || item || 0 48 0 || tag) */
    for (int i = 0; i < 8; i++)
        state[i] = V_ALL(start->state[i]);
    for (size_t number = 0; number < most; number++) {
        const size_t at = number * SHA_BLOCK;
        unsigned running = 0;
        for (size_t lane = 0; lane < LANES; lane++) {
            u8 *to = block[lane];
            memset(to, 0, SHA_BLOCK);
            put(to, at, text[lane], 0, size[lane]);
            put(to, at, middle, size[lane], sizeof middle);
            put(to, at, from->tag, size[lane] + sizeof middle, from->tag_size);
            put_end(to, at, size[lane] + sizeof middle + from->tag_size, SHA_BLOCK);
            running |= (unsigned)(number < blocks[lane]) << lane;
            for (int i = 0; i < 16; i++)
                words[i][lane] = big_endian(to + 8 * i);
        }
        for (int i = 0; i < 16; i++)
            w[i] = V_LOAD(words[i]);
        for (int i = 0; i < 8; i++)
            kept[i] = state[i];
        sha_compress(state, w);
        for (int i = 0; i < 8; i++)
            state[i] = V_KEEP(kept[i], state[i], running);
    }
    /* b_1 = H(b_0 || 1 || tag): b_0 is already in words */
    const size_t whole = 64 + sizeof one + from->tag_size;
    for (int i = 0; i < 8; i++) {
        kept[i] = state[i];
        state[i] = V_ALL(sha_start[i]);
    }
    for (size_t at = 0; at < whole + 17; at += SHA_BLOCK) {
        memset(block[0], 0, SHA_BLOCK);
        put(block[0], at, one, 64, sizeof one);
        put(block[0], at, from->tag, 64 + sizeof one, from->tag_size);
        put_end(block[0], at, whole, 0);
        for (int i = 0; i < 16; i++)
            w[i] = at || i >= 8 ? V_ALL(big_endian(block[0] + 8 * i)) : kept[i];
        sha_compress(state, w);
    }
    /* the first 48 bytes, a big-endian number below 2^384, to limbs; 2^255 counts 19 */
    for (int i = 0; i < 6; i++)
        V_STORE(words[i], state[i]);
    for (size_t lane = 0; lane < LANES; lane++) {
        u64 x[6], limbs[8];
        for (int i = 0; i < 6; i++)
            x[i] = words[5 - i][lane];
        for (int i = 0; i < 8; i++) {
            const int bit = 51 * i, word = bit / 64, shift = bit % 64;
            limbs[i] = x[word] >> shift;
            if (shift > 13 && word < 5)
                limbs[i] |= x[word + 1] << (64 - shift);
            limbs[i] &= MASK51;
        }
        for (int i = 0; i < 3; i++)
            limbs[i] += 19 * limbs[i + 5];
        for (int i = 0; i < 4; i++) {
            limbs[i + 1] += limbs[i] >> 51;
            limbs[i] &= MASK51;
        }
        limbs[0] += 19 * (limbs[4] >> 51); /* a carry of one at most */
        limbs[4] &= MASK51;
        for (int i = 0; i < 5; i++)
            out->limb[i][lane] = limbs[i];
    }
}
