/* The curve kernel on AVX512-IFMA: eight points at a time, five limbs of 51 bits in words of 64.
 *
 * A product leaves its columns as they are, below 125 * 2^52 (`wide`); only after the next sum or difference, or none,
 * does one parallel pass of carries bring the limbs below 2^51 + 2^14 (`tight`). The multiply instruction reads the
 * low 52 bits of a word, so nothing else may enter a product. Bounds: docs/explanation/curve.md.
 */
#include "curve25519.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

/* Ordering instructions before registers are given out starts several columns at once: the multiply unit waits less.
 * With the 16 registers of AVX2 the same costs three times what it gains. */
#if !defined(__clang__)
#pragma GCC optimize("schedule-insns")
#endif

#define LANES 8
#define FAST __attribute__((target("avx512f,avx512ifma")))
#define INLINE FAST static inline __attribute__((always_inline))

typedef __m512i vec;
typedef struct { vec limb[5]; } wide;
typedef struct { vec limb[5]; } tight;
typedef struct { u64 limb[5][LANES]; } lanes51;

#define V_ADD(a, b) _mm512_add_epi64(a, b)
#define V_XOR3(a, b, c) _mm512_ternarylogic_epi64(a, b, c, 0x96)
#define V_CH(e, f, g) _mm512_ternarylogic_epi64(e, f, g, 0xCA)
#define V_MAJ(a, b, c) _mm512_ternarylogic_epi64(a, b, c, 0xE8)
#define V_ROR(x, n) _mm512_ror_epi64(x, n)
#define V_SHR(x, n) _mm512_srli_epi64(x, n)
#define V_ALL(word) _mm512_set1_epi64((long long)(word))
#define V_LOAD(at) _mm512_loadu_si512(at)
#define V_STORE(at, x) _mm512_storeu_si512(at, x)
#define V_KEEP(old, new, mask) _mm512_mask_mov_epi64(old, (__mmask8)(mask), new)

#define TWICE(x) _mm512_add_epi64(x, x)

INLINE vec low(vec sum, vec a, vec b) /* sum + the low 52 bits of a b */
{
    return _mm512_madd52lo_epu64(sum, a, b);
}

INLINE vec high(vec sum, vec a, vec b) /* sum + a b / 2^52: counts twice in the next column, whose unit is 2^51 */
{
    return _mm512_madd52hi_epu64(sum, a, b);
}

/* 17 h; with h already in a sum that is then doubled this makes 19 h */
INLINE vec seventeen(vec h)
{
    return V_ADD(_mm512_slli_epi64(h, 4), h);
}

INLINE void multiply(wide *out, const tight *left, const tight *right)
{
    const vec a0 = left->limb[0], a1 = left->limb[1], a2 = left->limb[2], a3 = left->limb[3], a4 = left->limb[4];
    const vec b0 = right->limb[0], b1 = right->limb[1], b2 = right->limb[2], b3 = right->limb[3], b4 = right->limb[4];
    const vec zero = _mm512_setzero_si512();
    /* columns 5 to 9: high halves, doubled, then low halves */
    vec h0 = high(zero, a0, b4), h1 = high(zero, a1, b4), h2 = high(zero, a2, b4), h3 = high(zero, a3, b4);
    vec h4 = high(zero, a4, b4);
    h0 = high(h0, a1, b3), h1 = high(h1, a2, b3), h2 = high(h2, a3, b3), h3 = high(h3, a4, b3);
    h0 = high(h0, a2, b2), h1 = high(h1, a3, b2), h2 = high(h2, a4, b2);
    h0 = high(h0, a3, b1), h1 = high(h1, a4, b1);
    h0 = high(h0, a4, b0);
    h0 = TWICE(h0), h1 = TWICE(h1), h2 = TWICE(h2), h3 = TWICE(h3), h4 = TWICE(h4);
    h0 = low(h0, a1, b4), h1 = low(h1, a2, b4), h2 = low(h2, a3, b4), h3 = low(h3, a4, b4);
    h0 = low(h0, a2, b3), h1 = low(h1, a3, b3), h2 = low(h2, a4, b3);
    h0 = low(h0, a3, b2), h1 = low(h1, a4, b2);
    h0 = low(h0, a4, b1);
    /* columns 0 to 4 likewise, on top of 19 times those */
    vec r0 = h0, r1 = high(h1, a0, b0), r2 = high(h2, a0, b1), r3 = high(h3, a0, b2), r4 = high(h4, a0, b3);
    r2 = high(r2, a1, b0), r3 = high(r3, a1, b1), r4 = high(r4, a1, b2);
    r3 = high(r3, a2, b0), r4 = high(r4, a2, b1);
    r4 = high(r4, a3, b0);
    r0 = V_ADD(TWICE(r0), seventeen(h0)), r1 = V_ADD(TWICE(r1), seventeen(h1)), r2 = V_ADD(TWICE(r2), seventeen(h2));
    r3 = V_ADD(TWICE(r3), seventeen(h3)), r4 = V_ADD(TWICE(r4), seventeen(h4));
    r0 = low(r0, a0, b0), r1 = low(r1, a0, b1), r2 = low(r2, a0, b2), r3 = low(r3, a0, b3), r4 = low(r4, a0, b4);
    r1 = low(r1, a1, b0), r2 = low(r2, a1, b1), r3 = low(r3, a1, b2), r4 = low(r4, a1, b3);
    r2 = low(r2, a2, b0), r3 = low(r3, a2, b1), r4 = low(r4, a2, b2);
    r3 = low(r3, a3, b0), r4 = low(r4, a3, b1);
    r4 = low(r4, a4, b0);
    out->limb[0] = r0, out->limb[1] = r1, out->limb[2] = r2, out->limb[3] = r3, out->limb[4] = r4;
}

/* the cross products are taken once and doubled with the sum: their high halves count four times */
INLINE void square(wide *out, const tight *x)
{
    const vec a0 = x->limb[0], a1 = x->limb[1], a2 = x->limb[2], a3 = x->limb[3], a4 = x->limb[4];
    const vec zero = _mm512_setzero_si512();
    vec h0 = high(zero, a0, a4), h1 = high(zero, a1, a4), h2 = high(zero, a2, a4), h3 = high(zero, a3, a4);
    h0 = high(h0, a1, a3), h1 = high(h1, a2, a3);
    h0 = TWICE(h0), h1 = TWICE(h1), h2 = TWICE(h2), h3 = TWICE(h3);
    h0 = high(h0, a2, a2), h2 = high(h2, a3, a3);
    vec h4 = high(zero, a4, a4);
    h0 = low(h0, a1, a4), h1 = low(h1, a2, a4), h2 = low(h2, a3, a4);
    h0 = low(h0, a2, a3);
    h0 = TWICE(h0), h1 = TWICE(h1), h2 = TWICE(h2), h3 = TWICE(h3), h4 = TWICE(h4);
    h1 = low(h1, a3, a3), h3 = low(h3, a4, a4);
    /* 19 h = 4 (4 h) + 2 h + h through the two doublings */
    vec r0 = _mm512_slli_epi64(h0, 3), r1 = _mm512_slli_epi64(h1, 3);
    vec r2 = _mm512_slli_epi64(h2, 2), r3 = _mm512_slli_epi64(h3, 2), r4 = _mm512_slli_epi64(h4, 2);
    r2 = high(r2, a0, a1), r3 = high(r3, a0, a2), r4 = high(r4, a0, a3);
    r4 = high(r4, a1, a2);
    r2 = TWICE(r2), r3 = TWICE(r3), r4 = TWICE(r4);
    r0 = V_ADD(r0, h0), r1 = V_ADD(r1, h1), r2 = V_ADD(r2, h2), r3 = V_ADD(r3, h3), r4 = V_ADD(r4, h4);
    r1 = high(r1, a0, a0), r3 = high(r3, a1, a1);
    r1 = low(r1, a0, a1), r2 = low(r2, a0, a2), r3 = low(r3, a0, a3), r4 = low(r4, a0, a4);
    r3 = low(r3, a1, a2), r4 = low(r4, a1, a3);
    r0 = TWICE(r0), r1 = TWICE(r1), r2 = TWICE(r2), r3 = TWICE(r3), r4 = TWICE(r4);
    r0 = V_ADD(r0, h0), r1 = V_ADD(r1, h1), r2 = V_ADD(r2, h2), r3 = V_ADD(r3, h3), r4 = V_ADD(r4, h4);
    r0 = low(r0, a0, a0), r2 = low(r2, a1, a1), r4 = low(r4, a2, a2);
    out->limb[0] = r0, out->limb[1] = r1, out->limb[2] = r2, out->limb[3] = r3, out->limb[4] = r4;
}

INLINE void add(wide *out, const wide *a, const wide *b)
{
    for (int i = 0; i < 5; i++)
        out->limb[i] = V_ADD(a->limb[i], b->limb[i]);
}

INLINE void subtract(wide *out, const wide *a, const wide *b) /* a - b + 2^8 p */
{
    for (int i = 0; i < 5; i++)
        out->limb[i] = _mm512_sub_epi64(V_ADD(a->limb[i], V_ALL((i ? MASK51 : MASK51 - 18) << 8)), b->limb[i]);
}

INLINE void small(wide *out, u64 x)
{
    for (int i = 0; i < 5; i++)
        out->limb[i] = V_ALL(i ? 0 : x);
}

INLINE void add_small(wide *out, u64 x)
{
    out->limb[0] = V_ADD(out->limb[0], V_ALL(x));
}

INLINE void carry(tight *out, const wide *x) /* limbs below 2^60 */
{
    const vec mask = V_ALL(MASK51);
    out->limb[0] = low(_mm512_and_si512(x->limb[0], mask), V_SHR(x->limb[4], 51), V_ALL(19));
    for (int i = 1; i < 5; i++)
        out->limb[i] = V_ADD(_mm512_and_si512(x->limb[i], mask), V_SHR(x->limb[i - 1], 51));
}

INLINE void widen(wide *out, const tight *x) /* of a loaded point */
{
    for (int i = 0; i < 5; i++)
        out->limb[i] = x->limb[i];
}

INLINE void scaled(wide *out, const tight *e, const tight *aa) /* AA + 121665 E */
{
    const vec a24 = V_ALL(121665), zero = _mm512_setzero_si512();
    out->limb[0] = low(low(aa->limb[0], e->limb[0], a24), high(zero, e->limb[4], a24), V_ALL(38));
    for (int i = 1; i < 5; i++) {
        const vec above = high(zero, e->limb[i - 1], a24);
        out->limb[i] = low(V_ADD(aa->limb[i], TWICE(above)), e->limb[i], a24);
    }
}

INLINE void choose(tight *a, const tight *b, u8 which) /* b where a bit is set */
{
    for (int i = 0; i < 5; i++)
        a->limb[i] = _mm512_mask_mov_epi64(a->limb[i], (__mmask8)which, b->limb[i]);
}

INLINE void load(tight *out, const lanes51 *from)
{
    for (int i = 0; i < 5; i++)
        out->limb[i] = V_LOAD(from->limb[i]);
}

INLINE void unload(lanes51 *to, const tight *x)
{
    for (int i = 0; i < 5; i++)
        V_STORE(to->limb[i], x->limb[i]);
}

#include "sha512_lanes.h"
#include "curve25519_lanes.h"

static int supported(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512ifma");
}

const variant curve25519_ifma = { supported, 5, LANES, multiply_points, map_items, probe };

#else

static int supported(void)
{
    return 0;
}

const variant curve25519_ifma = { supported, 0, 0, 0, 0, 0 };
#endif
