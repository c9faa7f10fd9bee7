/* The curve kernel on AVX2: four points at a time, ten limbs of 26 and 25 bits by turns in words of 64.
 *
 * Limb i stands for 2^ceil(25.5 i): a product of two odd limbs counts twice, one that passes 2^255 counts 19 times.
 * A product leaves its columns below 125 * 2^52 (`wide`); after the next sum or difference, or none, two chains of
 * carries bring the limbs below 2^26 and 2^25 + 2^15 (`tight`). The multiply instruction reads the low 32 bits of a
 * word, and 19 times a limb must fit: only a `tight` may enter a product. Bounds: docs/explanation/curve.md.
 */
#include "curve25519.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define LANES 4
#define LIMBS 10
#define FAST __attribute__((target("avx2")))
#define INLINE FAST static inline __attribute__((always_inline))

typedef __m256i vec;
typedef struct { vec limb[LIMBS]; } wide;
typedef struct { vec limb[LIMBS]; } tight;
typedef struct { u64 limb[5][LANES]; } lanes51;

#define BITS(i) (26 - (i) % 2)
#define MASK(i) (((u64)1 << BITS(i)) - 1)

#define V_ADD(a, b) _mm256_add_epi64(a, b)
#define V_XOR(a, b) _mm256_xor_si256(a, b)
#define V_AND(a, b) _mm256_and_si256(a, b)
#define V_XOR3(a, b, c) V_XOR(V_XOR(a, b), c)
#define V_CH(e, f, g) V_XOR(g, V_AND(e, V_XOR(f, g)))
#define V_MAJ(a, b, c) V_XOR(V_AND(a, b), V_AND(c, V_XOR(a, b)))
#define V_ROR(x, n) _mm256_or_si256(_mm256_srli_epi64(x, n), _mm256_slli_epi64(x, 64 - (n)))
#define V_SHR(x, n) _mm256_srli_epi64(x, n)
#define V_ALL(word) _mm256_set1_epi64x((long long)(word))
#define V_LOAD(at) _mm256_loadu_si256((const __m256i *)(const void *)(at))
#define V_STORE(at, x) _mm256_storeu_si256((__m256i *)(void *)(at), x)
#define V_KEEP(old, new, mask) _mm256_blendv_epi8(old, new, lanes_of(mask))
#define TIMES(a, b) _mm256_mul_epu32(a, b)

INLINE vec lanes_of(unsigned bits) /* a lane's bit to a lane of ones */
{
    const vec place = _mm256_set_epi64x(8, 4, 2, 1);
    return _mm256_cmpeq_epi64(V_AND(V_ALL(bits), place), place);
}

INLINE vec nineteen(vec x) /* of up to 59 bits; the multiply instruction would drop the upper half */
{
    return V_ADD(V_ADD(_mm256_slli_epi64(x, 4), V_ADD(x, x)), x);
}

/* Keeps a row's sums where they are, in registers: the compiler would add in another order and spill most of them. */
#define ROW_ENDS(s)                                                                                                    \
    __asm__("" : "+x"((s)[0]), "+x"((s)[1]), "+x"((s)[2]), "+x"((s)[3]), "+x"((s)[4]), "+x"((s)[5]), "+x"((s)[6]),     \
            "+x"((s)[7]), "+x"((s)[8]), "+x"((s)[9]))

/* Row by row, so that ten sums and one factor stay in registers; products that pass 2^255 take 19 b_j, products of two
 * odd limbs take 2 a_i. The loops unroll. */
INLINE void multiply(wide *out, const tight *left, const tight *right)
{
    const vec *a = left->limb, *b = right->limb;
    vec much[LIMBS], sum[LIMBS];
    for (int j = 1; j < LIMBS; j++)
        much[j] = TIMES(b[j], V_ALL(19));
#pragma GCC unroll 10
    for (int j = 0; j < LIMBS; j++)
        sum[j] = TIMES(a[0], b[j]);
#pragma GCC unroll 10
    for (int i = 1; i < LIMBS; i++) {
        const vec once = a[i], twice = V_ADD(once, once);
#pragma GCC unroll 10
        for (int j = 0; j < LIMBS; j++) {
            const int k = (i + j) % LIMBS;
            sum[k] = V_ADD(sum[k], TIMES(i % 2 && j % 2 ? twice : once, i + j < LIMBS ? b[j] : much[j]));
        }
        ROW_ENDS(sum);
    }
    for (int k = 0; k < LIMBS; k++)
        out->limb[k] = sum[k];
}

/* each pair i < j once, with 2 a_i, or 4 a_i when both are odd */
INLINE void square(wide *out, const tight *x)
{
    const vec *a = x->limb;
    vec much[LIMBS], sum[LIMBS];
    for (int j = LIMBS / 2; j < LIMBS; j++)
        much[j] = TIMES(a[j], V_ALL(19));
#pragma GCC unroll 10
    for (int i = 0; i < LIMBS; i++) {
        const vec once = a[i], twice = V_ADD(once, once), both_odd = i % 2 ? V_ADD(twice, twice) : twice;
#pragma GCC unroll 10
        for (int j = i; j < LIMBS; j++) {
            const int k = (i + j) % LIMBS;
            const vec factor = i == j ? (i % 2 ? twice : once) : (j % 2 ? both_odd : twice);
            const vec product = TIMES(factor, i + j < LIMBS ? a[j] : much[j]);
            sum[k] = i == 0 ? product : V_ADD(sum[k], product);
        }
        ROW_ENDS(sum);
    }
    for (int k = 0; k < LIMBS; k++)
        out->limb[k] = sum[k];
}

INLINE void add(wide *out, const wide *a, const wide *b)
{
    for (int i = 0; i < LIMBS; i++)
        out->limb[i] = V_ADD(a->limb[i], b->limb[i]);
}

INLINE void subtract(wide *out, const wide *a, const wide *b) /* a - b + 2^34 p */
{
    for (int i = 0; i < LIMBS; i++)
        out->limb[i] = _mm256_sub_epi64(V_ADD(a->limb[i], V_ALL((i ? MASK(i) : MASK(0) - 18) << 34)), b->limb[i]);
}

INLINE void small(wide *out, u64 x) /* below 2^52 */
{
    for (int i = 0; i < LIMBS; i++)
        out->limb[i] = V_ALL(i == 0 ? x : 0);
}

INLINE void add_small(wide *out, u64 x)
{
    out->limb[0] = V_ADD(out->limb[0], V_ALL(x));
}

INLINE void pass_on(vec *x, int i) /* what limb i has too much goes to the next */
{
    x[i + 1] = V_ADD(x[i + 1], V_SHR(x[i], BITS(i)));
    x[i] = V_AND(x[i], V_ALL(MASK(i)));
}

INLINE void carry(tight *out, const wide *from) /* limbs below 2^61 */
{
    vec *x = out->limb;
    for (int i = 0; i < LIMBS; i++)
        x[i] = from->limb[i];
    /* two chains side by side: 0 to 4 and 4 to 9 */
    pass_on(x, 0), pass_on(x, 4);
    pass_on(x, 1), pass_on(x, 5);
    pass_on(x, 2), pass_on(x, 6);
    pass_on(x, 3), pass_on(x, 7);
    pass_on(x, 4), pass_on(x, 8);
    x[0] = V_ADD(x[0], nineteen(V_SHR(x[9], 25)));
    x[9] = V_AND(x[9], V_ALL(MASK(9)));
    pass_on(x, 0);
}

INLINE void widen(wide *out, const tight *x) /* of a loaded point */
{
    for (int i = 0; i < LIMBS; i++)
        out->limb[i] = x->limb[i];
}

INLINE void scaled(wide *out, const tight *e, const tight *aa) /* AA + 121665 E */
{
    for (int i = 0; i < LIMBS; i++)
        out->limb[i] = V_ADD(aa->limb[i], TIMES(e->limb[i], V_ALL(121665)));
}

INLINE void choose(tight *a, const tight *b, u8 which) /* b where a bit is set */
{
    const vec mask = lanes_of(which);
    for (int i = 0; i < LIMBS; i++)
        a->limb[i] = _mm256_blendv_epi8(a->limb[i], b->limb[i], mask);
}

INLINE void load(tight *out, const lanes51 *from) /* limbs of 51 bits, the lowest may hold 2^10 more, to pairs of 26 and 25 */
{
    for (int i = 0; i < 5; i++) {
        const vec x = V_LOAD(from->limb[i]);
        out->limb[2 * i] = V_AND(x, V_ALL(MASK(0)));
        out->limb[2 * i + 1] = V_SHR(x, 26);
    }
}

INLINE void unload(lanes51 *to, const tight *x)
{
    for (int i = 0; i < 5; i++)
        V_STORE(to->limb[i], V_ADD(x->limb[2 * i], _mm256_slli_epi64(x->limb[2 * i + 1], 26)));
}

#include "sha512_lanes.h"
#include "curve25519_lanes.h"

static int supported(void)
{
    return __builtin_cpu_supports("avx2") != 0;
}

const variant curve25519_avx2 = { supported, LIMBS, LANES, multiply_points, map_items, probe };

#else

static int supported(void)
{
    return 0;
}

const variant curve25519_avx2 = { supported, 0, 0, 0, 0, 0 };
#endif
