/* The transform kernel on AVX512-IFMA: eight values at a time, products of 52 bits.
 *
 * Butterflies are Harvey's, values in [0, 4p) with 4p < 2^52. A transform is three passes over memory: two of three
 * layers, and one that takes 128 neighbours through the last seven (first seven of the inverse) in registers. The
 * multiply instruction reads the low 52 bits of a word, so nothing else may enter a product. Bounds:
 * docs/explanation/ntt.md. Over 400 lines because all functions of a variant stand in one file.
 */
#include "ntt.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define FAST __attribute__((target("avx512f,avx512bw,avx512ifma,avx512vbmi")))
#define INLINE FAST static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")

typedef __m512i vec;

#define ALL(word) _mm512_set1_epi64((long long)(word))
#define LOAD(at) _mm512_loadu_si512(at)
#define STORE(at, x) _mm512_storeu_si512(at, x)
#define ADD(a, b) _mm512_add_epi64(a, b)
#define SUB(a, b) _mm512_sub_epi64(a, b)
#define AND(a, b) _mm512_and_si512(a, b)
#define MASK52 (((u64)1 << 52) - 1)

typedef struct { vec p, twice, mask, minus; } constants; /* minus: 2^52 - p */
typedef struct { vec w, w_q; } twiddle; /* a known factor and floor(w 2^52 / p) */

INLINE constants constants_of(const prime *q)
{
    return (constants){ ALL(q->p), ALL(2 * q->p), ALL(MASK52), ALL((MASK52 + 1) - q->p) };
}

INLINE vec low(vec sum, vec a, vec b) /* sum + the low 52 bits of a b */
{
    return _mm512_madd52lo_epu64(sum, a, b);
}

INLINE vec high(vec sum, vec a, vec b) /* sum + a b / 2^52 */
{
    return _mm512_madd52hi_epu64(sum, a, b);
}

INLINE vec under(vec x, vec p) /* x < 2p to x mod p: below 0 a word is large */
{
    return _mm512_min_epu64(x, SUB(x, p));
}

INLINE twiddle of(vec w, vec quotient) /* from the quotient for words of 64 bits: floor(w 2^64 / p) / 2^12 */
{
    return (twiddle){ w, _mm512_srli_epi64(quotient, 12) };
}

INLINE twiddle one(const u64 *w, const u64 *w_q)
{
    return of(ALL(*w), ALL(*w_q));
}

INLINE vec times(vec x, twiddle w, const constants *k) /* x w mod p in [0, 2p), for x < 2^52: Shoup */
{
    const vec none = _mm512_setzero_si512(), quotient = high(none, x, w.w_q);
    return AND(low(low(none, x, w.w), quotient, k->minus), k->mask);
}

INLINE void cross(vec *a, vec *b, twiddle w, const constants *k) /* forward: [0, 4p) to [0, 4p) */
{
    const vec u = under(*a, k->twice), v = times(*b, w, k);
    *a = ADD(u, v);
    *b = SUB(ADD(u, k->twice), v);
}

INLINE void uncross(vec *a, vec *b, twiddle w, const constants *k) /* inverse: [0, 2p) to [0, 2p) */
{
    const vec u = *a, v = *b;
    *a = under(ADD(u, v), k->twice);
    *b = times(SUB(ADD(u, k->twice), v), w, k);
}

/* `count` vectors through their layers. One loop of known length, so that the compiler keeps them all in registers:
 * step n is butterfly n % (count / 2) of layer n / (count / 2). Twiddle 2^l + j is of layer l and its group j. */
INLINE void down(vec *x, int count, int layers, const twiddle *w, const constants *k)
{
    UNROLL
    for (int n = 0; n < layers * count / 2; n++) {
        const int l = n / (count / 2), i = n % (count / 2), half = count >> (l + 1), j = i / half;
        cross(x + i + half * j, x + i + half * (j + 1), w[(1 << l) + j], k);
    }
}

INLINE void up(vec *x, int count, int layers, int last, const twiddle *w, const constants *k)
{
    UNROLL
    for (int n = 0; n < layers * count / 2; n++) {
        const int l = last - n / (count / 2), i = n % (count / 2), half = count >> (l + 1), j = i / half;
        uncross(x + i + half * j, x + i + half * (j + 1), w[(1 << l) + j], k);
    }
}

/* the twiddles 1 to count - 1 of layers of which the first has its own at `m` */
INLINE void gather(twiddle *w, int count, const u64 *table, const u64 *table_q, size_t m)
{
    UNROLL
    for (int n = 1; n < count; n++) {
        const int groups = 1 << (31 - __builtin_clz((unsigned)n));
        const size_t at = m * (size_t)groups + (size_t)(n - groups);
        w[n] = one(table + at, table_q + at);
    }
}

INLINE void load(vec *a, int count, const u64 *x, size_t t)
{
    UNROLL
    for (int n = 0; n < count; n++)
        a[n] = LOAD(x + (size_t)n * t);
}

INLINE void store(u64 *x, const vec *a, int count, size_t t)
{
    UNROLL
    for (int n = 0; n < count; n++)
        STORE(x + (size_t)n * t, a[n]);
}

/* --- the last three layers, inside of vectors: two of them at a time, (u0, v0, ...) and so on --------------------- */

#define INDEX(a, b, c, d, e, f, g, h) _mm512_setr_epi64(a, b, c, d, e, f, g, h)

INLINE vec both(vec a, vec index, vec b)
{
    return _mm512_permutex2var_epi64(a, index, b);
}

/* 2 or 4 neighbours of a table, each for its lanes */
INLINE vec spread2(const u64 *w)
{
    const vec index = INDEX(0, 0, 0, 0, 1, 1, 1, 1);
    return _mm512_permutexvar_epi64(index, _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)w)));
}

INLINE vec spread4(const u64 *w)
{
    const vec index = INDEX(0, 0, 1, 1, 2, 2, 3, 3);
    return _mm512_permutexvar_epi64(index, _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)w)));
}

INLINE void down_inside(vec *a, vec *b, const u64 *root, const u64 *root_q, size_t pair, const constants *k)
{
    vec u = _mm512_shuffle_i64x2(*a, *b, 0x44), v = _mm512_shuffle_i64x2(*a, *b, 0xEE);
    const size_t at4 = N / 8 + 2 * pair, at2 = N / 4 + 4 * pair, at1 = N / 2 + 8 * pair;
    cross(&u, &v, of(spread2(root + at4), spread2(root_q + at4)), k);
    *a = both(u, INDEX(0, 1, 8, 9, 4, 5, 12, 13), v);
    *b = both(u, INDEX(2, 3, 10, 11, 6, 7, 14, 15), v);
    cross(a, b, of(spread4(root + at2), spread4(root_q + at2)), k);
    u = _mm512_unpacklo_epi64(*a, *b);
    v = _mm512_unpackhi_epi64(*a, *b);
    cross(&u, &v, of(LOAD(root + at1), LOAD(root_q + at1)), k);
    u = under(under(u, k->twice), k->p);
    v = under(under(v, k->twice), k->p);
    const vec even = _mm512_unpacklo_epi64(u, v), odd = _mm512_unpackhi_epi64(u, v);
    *a = both(even, INDEX(0, 1, 8, 9, 2, 3, 10, 11), odd);
    *b = both(even, INDEX(4, 5, 12, 13, 6, 7, 14, 15), odd);
}

INLINE void up_inside(vec *a, vec *b, const u64 *back, const u64 *back_q, size_t pair, const constants *k)
{
    const size_t at4 = N / 8 + 2 * pair, at2 = N / 4 + 4 * pair, at1 = N / 2 + 8 * pair;
    const vec even = both(*a, INDEX(0, 1, 4, 5, 8, 9, 12, 13), *b);
    const vec odd = both(*a, INDEX(2, 3, 6, 7, 10, 11, 14, 15), *b);
    vec u = _mm512_unpacklo_epi64(even, odd), v = _mm512_unpackhi_epi64(even, odd);
    uncross(&u, &v, of(LOAD(back + at1), LOAD(back_q + at1)), k);
    *a = _mm512_unpacklo_epi64(u, v);
    *b = _mm512_unpackhi_epi64(u, v);
    uncross(a, b, of(spread4(back + at2), spread4(back_q + at2)), k);
    u = both(*a, INDEX(0, 1, 8, 9, 4, 5, 12, 13), *b);
    v = both(*a, INDEX(2, 3, 10, 11, 6, 7, 14, 15), *b);
    uncross(&u, &v, of(spread2(back + at4), spread2(back_q + at4)), k);
    *a = _mm512_shuffle_i64x2(u, v, 0x44);
    *b = _mm512_shuffle_i64x2(u, v, 0xEE);
}

/* --- transforms -------------------------------------------------------------------------------------------------- */

/* three layers over values that stand N / (8 m) apart, for each of m groups */
FAST static void forward_pass(const prime *q, u64 *x, size_t m)
{
    const constants k = constants_of(q);
    const size_t t = N / 8 / m;
    for (size_t i = 0; i < m; i++) {
        u64 *group = x + 8 * t * i;
        twiddle w[8];
        gather(w, 8, q->root, q->root_q, m + i);
        for (size_t j = 0; j < t; j += LANES) {
            vec a[8];
            load(a, 8, group + j, t);
            down(a, 8, 3, w, &k);
            store(group + j, a, 8, t);
        }
    }
}

FAST static void forward(const prime *q, u64 *x)
{
    const constants k = constants_of(q);
    forward_pass(q, x, 1);
    forward_pass(q, x, 8);
    for (size_t i = 0; i < 64; i++) { /* seven layers of 128 neighbours */
        u64 *group = x + 128 * i;
        vec a[16];
        twiddle w[16];
        gather(w, 16, q->root, q->root_q, 64 + i);
        load(a, 16, group, LANES);
        down(a, 16, 4, w, &k);
        UNROLL
        for (int n = 0; n < 8; n++)
            down_inside(a + 2 * n, a + 2 * n + 1, q->root, q->root_q, 8 * i + (size_t)n, &k);
        store(group, a, 16, LANES);
    }
}

FAST static void inverse(const prime *q, u64 *x)
{
    const constants k = constants_of(q);
    for (size_t i = 0; i < 64; i++) {
        u64 *group = x + 128 * i;
        vec a[16];
        twiddle w[16];
        load(a, 16, group, LANES);
        UNROLL
        for (int n = 0; n < 8; n++)
            up_inside(a + 2 * n, a + 2 * n + 1, q->back, q->back_q, 8 * i + (size_t)n, &k);
        gather(w, 16, q->back, q->back_q, 64 + i);
        up(a, 16, 4, 3, w, &k);
        store(group, a, 16, LANES);
    }
    for (size_t i = 0; i < 8; i++) {
        u64 *group = x + 1024 * i;
        twiddle w[8];
        gather(w, 8, q->back, q->back_q, 8 + i);
        for (size_t j = 0; j < 128; j += LANES) {
            vec a[8];
            load(a, 8, group + j, 128);
            up(a, 8, 3, 2, w, &k);
            store(group + j, a, 8, 128);
        }
    }
    const twiddle scale = one(&q->n_inverse, &q->n_inverse_q), last = one(&q->last, &q->last_q);
    twiddle w[8];
    gather(w, 8, q->back, q->back_q, 1);
    for (size_t j = 0; j < 1024; j += LANES) { /* the last layer divides by N, too */
        vec a[8];
        load(a, 8, x + j, 1024);
        up(a, 8, 2, 2, w, &k);
        UNROLL
        for (int n = 0; n < 4; n++) {
            const vec u = a[n], v = a[n + 4];
            a[n] = under(times(ADD(u, v), scale, &k), k.p);
            a[n + 4] = under(times(SUB(ADD(u, k.twice), v), last, &k), k.p);
        }
        store(x + j, a, 8, 1024);
    }
}

/* --- products of two unknowns, and their sums -------------------------------------------------------------------- */

/* Barrett: with k the bits of p, floor(a b / 2^(k-2)) times floor(2^(k+50) / p) over 2^52 is at most two too small */
FAST static void multiply(const prime *q, u64 *out, const u64 *a, const u64 *b, int add)
{
    const constants k = constants_of(q);
    const vec none = _mm512_setzero_si512(), barrett = ALL(q->barrett);
    const __m128i left = _mm_cvtsi64_si128((long long)(54 - q->bits));
    const __m128i right = _mm_cvtsi64_si128((long long)(q->bits - 2));
    for (size_t j = 0; j < N; j += LANES) {
        const vec x = LOAD(a + j), y = LOAD(b + j), lower = low(none, x, y), upper = high(none, x, y);
        const vec top = _mm512_or_si512(_mm512_sll_epi64(upper, left), _mm512_srl_epi64(lower, right));
        vec r = AND(low(lower, high(none, top, barrett), k.minus), k.mask);
        r = under(under(r, k.twice), k.p);
        STORE(out + j, add ? under(ADD(r, LOAD(out + j)), k.p) : r);
    }
}

typedef struct { twiddle one, fold, fold2; } folds; /* 1, 2^52 and 2^104 modulo p */

INLINE folds folds_of(const prime *q)
{
    const u64 unit = 1;
    return (folds){ one(&unit, &q->one_q), one(&q->fold, &q->fold_q), one(&q->fold2, &q->fold2_q) };
}

/* lower + 2^52 upper mod p, for any words below 2^64 - 2^12 */
INLINE vec reduced(vec lower, vec upper, const folds *f, const constants *k)
{
    const vec middle = ADD(AND(upper, k->mask), _mm512_srli_epi64(lower, 52));
    const vec top = ADD(_mm512_srli_epi64(upper, 52), _mm512_srli_epi64(middle, 52));
    vec sum = under(ADD(times(AND(middle, k->mask), f->fold, k), times(top, f->fold2, k)), k->twice);
    sum = ADD(sum, times(AND(lower, k->mask), f->one, k));
    return under(under(sum, k->twice), k->p);
}

INLINE u64 across(vec x, u64 p) /* the sum of eight residues mod p */
{
    return (u64)_mm512_reduce_add_epi64(x) % p;
}

FAST static u64 dot(const prime *q, const u64 *a, const u64 *b)
{
    const constants k = constants_of(q);
    const folds f = folds_of(q);
    vec lower = _mm512_setzero_si512(), upper = lower; /* 1,024 halves below 2^52 */
    for (size_t j = 0; j < N; j += LANES) {
        const vec x = LOAD(a + j), y = LOAD(b + j);
        lower = low(lower, x, y);
        upper = high(upper, x, y);
    }
    return across(reduced(lower, upper, &f, &k), q->p);
}

INLINE void sum_rows(const prime *q, const chunk *at, size_t row, int count)
{
    const constants k = constants_of(q);
    const folds f = folds_of(q);
    const u64 *rows = at->rows + row * at->row_step, *x = at->column;
    vec lower[8], upper[8]; /* of each row both halves; at most 4,095 halves below 2^52 each */
    UNROLL
    for (int n = 0; n < 2 * count; n++)
        lower[n] = upper[n] = _mm512_setzero_si512();
    for (size_t block = 0; block < at->blocks; block++, x += 2 * LANES, rows += LANES) {
        const vec first = LOAD(x), second = LOAD(x + LANES);
        UNROLL
        for (int n = 0; n < count; n++) {
            const vec y = LOAD(rows + (size_t)n * at->row_step);
            lower[2 * n] = low(lower[2 * n], first, y);
            upper[2 * n] = high(upper[2 * n], first, y);
            lower[2 * n + 1] = low(lower[2 * n + 1], second, y);
            upper[2 * n + 1] = high(upper[2 * n + 1], second, y);
        }
    }
    for (int n = 0; n < count; n++) {
        u64 *first = at->first + (row + (size_t)n) * at->first_step;
        u64 *second = at->second + (row + (size_t)n) * at->second_step;
        *first = less(*first + across(reduced(lower[2 * n], upper[2 * n], &f, &k), q->p), q->p);
        STORE(second, under(ADD(LOAD(second), reduced(lower[2 * n + 1], upper[2 * n + 1], &f, &k)), k.p));
    }
}

FAST static void sums(const prime *q, const chunk *at)
{
    size_t row = 0;
    for (; row + 4 <= at->r; row += 4)
        sum_rows(q, at, row, 4);
    for (; row < at->r; row++)
        sum_rows(q, at, row, 1);
}

/* --- words to residues, residues to fractions, bits to bytes ----------------------------------------------------- */

/* x w + c for any word x = x1 2^52 + x0: x0 w + x1 (2^52 w mod p), each in [0, 2p) */
FAST static void affine(const prime *q, const factor *f, u64 *out, const u64 *x, size_t n)
{
    const constants k = constants_of(q);
    const vec none = _mm512_setzero_si512(), c = ALL(f->c);
    const twiddle w = one(&f->w, &f->w_q), v = one(&f->v, &f->v_q);
    for (size_t j = 0; j < n; j += LANES) {
        const __mmask8 some = (__mmask8)(n - j < LANES ? (1u << (n - j)) - 1 : 0xFF);
        const vec word = _mm512_maskz_loadu_epi64(some, x + j);
        const vec lower = AND(word, k.mask), upper = _mm512_srli_epi64(word, 52);
        /* the quotient may pass 2^52: of it, too, only the low bits count */
        const vec quotient = high(high(none, lower, w.w_q), upper, v.w_q);
        const vec product = low(low(none, lower, w.w), upper, v.w);
        vec r = AND(low(product, quotient, k.minus), k.mask); /* below 4p */
        r = under(under(r, k.twice), k.p);
        _mm512_mask_storeu_epi64(out + j, some, under(ADD(r, c), k.p));
    }
}

/* y floor(2^192 / p) / 2^64 in columns of 52 bits, y = v (q/p)^-1 mod p: the lowest never carries into the quotient */
FAST static void fraction(const prime *q, size_t primes, u64 *high_out, u64 *low_out, const u64 *x, size_t n)
{
    const vec none = _mm512_setzero_si512();
    for (size_t j = 0; j < n; j += LANES) {
        const __mmask8 some = (__mmask8)(n - j < LANES ? (1u << (n - j)) - 1 : 0xFF);
        vec first = none, second = none, third = none; /* units of 1, 2^40 and 2^92 */
        for (size_t i = 0; i < primes; i++) {
            const constants k = constants_of(q + i);
            const u64 h = q[i].share_high, m = q[i].share_low, l = q[i].share_rest;
            const vec w0 = ALL(l), w1 = ALL(l >> 52 | m << 12), w2 = ALL(m >> 40 | h << 24), w3 = ALL(h >> 28);
            const vec v = _mm512_maskz_loadu_epi64(some, x + i * n + j);
            const vec y = under(times(v, one(&q[i].part, &q[i].part_q), &k), k.p);
            first = ADD(first, _mm512_srli_epi64(low(high(none, y, w0), y, w1), 12));
            second = low(high(second, y, w1), y, w2);
            third = low(high(third, y, w2), y, w3);
        }
        const vec above = _mm512_slli_epi64(second, 40), lower = ADD(first, above);
        const __mmask8 carry = _mm512_cmplt_epu64_mask(lower, first);
        vec upper = ADD(_mm512_srli_epi64(second, 24), _mm512_slli_epi64(third, 28));
        upper = _mm512_mask_add_epi64(upper, carry, upper, ALL(1));
        _mm512_mask_storeu_epi64(low_out + j, some, lower);
        _mm512_mask_storeu_epi64(high_out + j, some, upper);
    }
}

/* eight values fill `bits` bytes; value j begins in byte bits j / 8. Its neighbours' bytes do not meet from 32 bits on */
#define VECTOR_BITS(bits) ((bits) >= 32 && (bits) <= 56)

FAST static void pack(u8 *out, const u64 *x, size_t n, unsigned bits)
{
    if (!VECTOR_BITS(bits)) {
        portable_pack(out, x, n, bits);
        return;
    }
    u8 place[2][64]; /* of the even and the odd values: which byte of the vector comes to each byte of the output */
    u64 used[2] = { 0, 0 }, shift[LANES];
    for (unsigned j = 0; j < LANES; j++) {
        shift[j] = bits * j % 8;
        for (unsigned i = 0; i < 8 && bits * j / 8 + i < bits; i++) {
            place[j % 2][bits * j / 8 + i] = (u8)(8 * j + i);
            used[j % 2] |= (u64)1 << (bits * j / 8 + i);
        }
    }
    const vec even = LOAD(place[0]), odd = LOAD(place[1]), by = LOAD(shift);
    const __mmask64 all = ((u64)1 << bits) - 1;
    for (size_t j = 0; j < n; j += LANES, out += bits) {
        const vec v = _mm512_sllv_epi64(LOAD(x + j), by);
        const vec bytes = _mm512_or_si512(_mm512_maskz_permutexvar_epi8(used[0], even, v),
                                          _mm512_maskz_permutexvar_epi8(used[1], odd, v));
        _mm512_mask_storeu_epi8(out, all, bytes);
    }
}

FAST static void unpack(u64 *out, const u8 *x, size_t n, unsigned bits)
{
    if (!VECTOR_BITS(bits)) {
        portable_unpack(out, x, n, bits);
        return;
    }
    u8 place[64];
    u64 shift[LANES];
    for (unsigned j = 0; j < LANES; j++) {
        shift[j] = bits * j % 8;
        for (unsigned i = 0; i < 8; i++)
            place[8 * j + i] = (u8)(bits * j / 8 + i);
    }
    const vec bytes = LOAD(place), by = LOAD(shift), keep = ALL(((u64)1 << bits) - 1);
    const __mmask64 all = ((u64)1 << bits) - 1;
    for (size_t j = 0; j < n; j += LANES, x += bits) {
        const vec v = _mm512_permutexvar_epi8(bytes, _mm512_maskz_loadu_epi8(all, x));
        STORE(out + j, AND(_mm512_srlv_epi64(v, by), keep));
    }
}

static int supported(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512ifma") && __builtin_cpu_supports("avx512vbmi");
}

const variant ntt_ifma = { supported, forward, inverse, multiply, dot, affine, fraction, pack, unpack, sums };

#else

static int supported(void)
{
    return 0;
}

const variant ntt_ifma = { supported, 0, 0, 0, 0, 0, 0, 0, 0, 0 };
#endif
