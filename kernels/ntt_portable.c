/* The transform kernel in plain C with unsigned __int128: Harvey's lazy butterflies, values in [0, 4p). */
#include "ntt.h"

static void forward(const prime *q, u64 *x)
{
    const u64 p = q->p, twice = 2 * p;
    size_t t = N;
    for (size_t m = 1; m < N; m *= 2) {
        t /= 2;
        for (size_t i = 0; i < m; i++) {
            const u64 w = q->root[m + i], w_q = q->root_q[m + i];
            u64 *a = x + 2 * i * t, *b = a + t;
            for (size_t j = 0; j < t; j++) {
                u64 u = less(a[j], twice), v = shoup(b[j], w, w_q, p);
                a[j] = u + v;
                b[j] = u - v + twice;
            }
        }
    }
    for (size_t j = 0; j < N; j++)
        x[j] = less(less(x[j], twice), p);
}

static void inverse(const prime *q, u64 *x)
{
    const u64 p = q->p, twice = 2 * p;
    size_t t = 1;
    for (size_t m = N / 2; m >= 1; m /= 2) {
        for (size_t i = 0; i < m; i++) {
            const u64 w = q->back[m + i], w_q = q->back_q[m + i];
            u64 *a = x + 2 * i * t, *b = a + t;
            for (size_t j = 0; j < t; j++) {
                u64 u = a[j], v = b[j];
                a[j] = less(u + v, twice);
                b[j] = shoup(u - v + twice, w, w_q, p);
            }
        }
        t *= 2;
    }
    for (size_t j = 0; j < N; j++)
        x[j] = less(shoup(x[j], q->n_inverse, q->n_inverse_q, p), p);
}

/* a b mod p for a, b < p < 2^50: quotient by doubles, off by one at most */
static inline u64 product(u64 a, u64 b, u64 p, double p_inverse)
{
    u64 quotient = (u64)((double)a * (double)b * p_inverse);
    u64 r = a * b - quotient * p; /* in (-p, 2p) */
    r += p & -(r >> 63);
    return less(r, p);
}

static void multiply(const prime *q, u64 *out, const u64 *a, const u64 *b, int add)
{
    for (size_t j = 0; j < N; j++) {
        u64 r = product(a[j], b[j], q->p, q->p_inverse);
        out[j] = add ? less(out[j] + r, q->p) : r;
    }
}

static u64 dot(const prime *q, const u64 *a, const u64 *b)
{
    u64 sum = 0; /* 8192 values below 2^50 stay below 2^63 */
    for (size_t j = 0; j < N; j++)
        sum += product(a[j], b[j], q->p, q->p_inverse);
    return sum % q->p;
}

void portable_affine(const prime *q, const factor *f, u64 *out, const u64 *x, size_t n)
{
    const u64 p = q->p, w = f->w, w_q = f->w_q, c = f->c;
    for (size_t j = 0; j < n; j++)
        out[j] = less(less(shoup(x[j], w, w_q, p), p) + c, p);
}

void portable_fraction(const prime *q, size_t primes, u64 *high, u64 *low, const u64 *x, size_t n)
{
    for (size_t j = 0; j < n; j++) {
        u128 sum = 0;
        for (size_t i = 0; i < primes; i++) {
            const u64 p = q[i].p;
            u64 y = less(shoup(x[i * n + j], q[i].part, q[i].part_q, p), p);
            sum += (u128)y * (((u128)q[i].share_high << 64) | q[i].share_low);
            sum += (u64)(((u128)y * q[i].share_rest) >> 64); /* without it v / q would be 2^-76 off, always below */
        }
        high[j] = (u64)(sum >> 64);
        low[j] = (u64)sum;
    }
}

void portable_pack(u8 *out, const u64 *x, size_t n, unsigned bits)
{
    u128 held = 0;
    unsigned filled = 0;
    for (size_t j = 0; j < n; j++) {
        held |= (u128)x[j] << filled;
        filled += bits;
        if (filled >= 64) {
            const u64 word = (u64)held;
            for (int i = 0; i < 8; i++)
                *out++ = (u8)(word >> (8 * i));
            held >>= 64;
            filled -= 64;
        }
    }
}

void portable_unpack(u64 *out, const u8 *x, size_t n, unsigned bits)
{
    const u64 mask = ((u64)1 << bits) - 1;
    u128 held = 0;
    unsigned filled = 0;
    for (size_t j = 0; j < n; j++) {
        if (filled < bits) {
            u64 word = 0;
            for (int i = 0; i < 8; i++)
                word |= (u64)*x++ << (8 * i);
            held |= (u128)word << filled;
            filled += 64;
        }
        out[j] = (u64)held & mask;
        held >>= bits;
        filled -= bits;
    }
}

static void sums(const prime *q, const chunk *at)
{
    const u64 p = q->p;
    for (size_t row = 0; row < at->r; row++) {
        const u64 *factors = at->rows + row * at->row_step;
        u64 *first = at->first + row * at->first_step, *second = at->second + row * at->second_step;
        for (size_t lane = 0; lane < LANES; lane++) {
            u128 sum[2] = { 0, 0 }; /* 4,095 products below 2^100 */
            for (size_t block = 0; block < at->blocks; block++)
                for (size_t half = 0; half < 2; half++)
                    sum[half] += (u128)at->column[(2 * block + half) * LANES + lane] * factors[block * LANES + lane];
            u64 found[2];
            for (size_t half = 0; half < 2; half++) {
                const u64 high = (u64)(sum[half] >> 64), low = (u64)sum[half];
                found[half] = less(less(shoup(high, q->word, q->word_q, p), p) + less(shoup(low, 1, q->one_q, p), p), p);
            }
            *first = less(*first + found[0], p);
            second[lane] = less(second[lane] + found[1], p);
        }
    }
}

static int supported(void)
{
    return 1;
}

const variant ntt_portable = {
    supported, forward, inverse, multiply, dot, portable_affine, portable_fraction, portable_pack, portable_unpack, sums,
};
