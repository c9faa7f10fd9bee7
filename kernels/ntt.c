/* Negacyclic number-theoretic transforms of length 8192 and the bulk arithmetic around them: what ctypes calls.
 *
 * A plain shared library: no Python, no global state, no allocation, nothing read but its arguments. Every function is
 * a loop of fixed length without secret-dependent branches or addresses; all variants (portable, AVX2, IFMA) give the
 * same bits. Arrays are [outer][primes][n], contiguous. Reference twin: kernels/ntt_reference.py.
 */
#include <string.h>

#include "ntt.h"

#define VERSION 3 /* of these signatures: the caller checks it, a library may be older than its Python side */

static const variant *const variants[] = { &ntt_portable, &ntt_avx2, &ntt_ifma };
#define VARIANTS (sizeof variants / sizeof *variants)

int ntt_layout(void)
{
    return VERSION * 65536 + (int)sizeof(prime);
}

/* 1 for a variant that this machine can run: in the order portable, avx2, ifma */
int ntt_variant(int which)
{
    return which >= 0 && which < (int)VARIANTS && variants[which]->supported();
}

void ntt_forward(int which, const prime *q, size_t primes, u64 *x, size_t outer)
{
    for (size_t k = 0; k < outer * primes; k++)
        variants[which]->forward(q + k % primes, x + k * N);
}

void ntt_inverse(int which, const prime *q, size_t primes, u64 *x, size_t outer)
{
    for (size_t k = 0; k < outer * primes; k++)
        variants[which]->inverse(q + k % primes, x + k * N);
}

/* out = a b, or out + a b when add is set; b holds `b_outer` polynomials, used again and again */
void ntt_multiply(int which, const prime *q, size_t primes, u64 *out, const u64 *a, const u64 *b, size_t outer,
                  size_t b_outer, int add)
{
    for (size_t k = 0; k < outer * primes; k++)
        variants[which]->multiply(q + k % primes, out + k * N, a + k * N, b + k % (b_outer * primes) * N, add);
}

void ntt_dot(int which, const prime *q, size_t primes, u64 *out, const u64 *a, const u64 *b)
{
    for (size_t i = 0; i < primes; i++)
        out[i] = variants[which]->dot(q + i, a + i * N, b + i * N);
}

/* x [outer][n] of any 64-bit words to x w + c modulo each prime, [outer][primes][n] */
void ntt_affine(int which, const prime *q, size_t primes, const factor *f, u64 *out, const u64 *x, size_t outer,
                size_t n)
{
    for (size_t o = 0; o < outer; o++)
        for (size_t i = 0; i < primes; i++)
            variants[which]->affine(q + i, f + i, out + (o * primes + i) * n, x + o * n, n);
}

/* residues of v [outer][primes][n] to v / q as a binary fraction of 128 bits, [outer][n] each */
void ntt_fraction(int which, const prime *q, size_t primes, u64 *high, u64 *low, const u64 *x, size_t outer, size_t n)
{
    for (size_t o = 0; o < outer; o++)
        variants[which]->fraction(q, primes, high + o * n, low + o * n, x + o * primes * n, n);
}

/* n values of `bits` bits (at most 56; n a multiple of 64) to little-endian bytes, and back */
void ntt_pack(int which, u8 *out, const u64 *x, size_t n, unsigned bits)
{
    variants[which]->pack(out, x, n, bits);
}

void ntt_unpack(int which, u64 *out, const u8 *x, size_t n, unsigned bits)
{
    variants[which]->unpack(out, x, n, bits);
}

#define TOGETHER 8 /* blocks whose values are written side by side: whole runs of memory instead of single lines */
#define RUN 8 /* chunks read one after the other: blocks lie a multiple of 4096 bytes apart, on the same cache sets */

/* x [some][halves][primes][N] to blocks from `start` on of what is kept lane by lane:
 * [primes][N / LANES][blocks][halves][LANES] */
void ntt_place(u64 *kept, size_t blocks, size_t start, const u64 *x, size_t some, size_t halves, size_t primes)
{
    const size_t chunks = primes * (N / LANES);
    for (size_t from = 0; from < chunks; from += RUN)
        for (size_t k = 0; k < some * halves; k++)
            for (size_t c = from; c < from + RUN; c++)
                memcpy(kept + ((c * blocks + start) * halves + k) * LANES, x + (k * chunks + c) * LANES,
                       LANES * sizeof(u64));
}

/* Signed x [blocks][N], as words with the top bit turned over, to the transforms of x(1/X), which are those of x
 * backwards, lane by lane in the first blocks of `length`. f: x -> x - 2^63. `scratch`: TOGETHER N words. */
void ntt_rows(int which, const prime *q, size_t primes, const factor *f, u64 *kept, size_t length, const u64 *x,
              size_t blocks, u64 *scratch)
{
    for (size_t start = 0; start < blocks; start += TOGETHER) {
        const size_t some = blocks - start < TOGETHER ? blocks - start : TOGETHER;
        for (size_t i = 0; i < primes; i++) {
            for (size_t b = 0; b < some; b++) {
                variants[which]->affine(q + i, f + i, scratch + b * N, x + (start + b) * N, N);
                variants[which]->forward(q + i, scratch + b * N);
            }
            for (size_t first = 0; first < N / LANES; first += RUN)
                for (size_t b = 0; b < some; b++)
                    for (size_t c = first; c < first + RUN; c++) {
                        u64 *to = kept + ((i * (N / LANES) + c) * length + start + b) * LANES;
                        const u64 *from = scratch + b * N + N - LANES * (c + 1);
                        for (size_t lane = 0; lane < LANES; lane++)
                            to[lane] = from[LANES - 1 - lane];
                    }
        }
    }
}

/* k columns of two halves times r rows, `blocks` blocks of each, added to totals below the primes:
 * first [k][r][primes], the sum of all N values; second [k][r][primes][N]. A column points at the first block that
 * counts. Lengths are the blocks for which there was room. Chunk by chunk: memory is read once. */
void ntt_sums(int which, const prime *q, size_t primes, u64 *first, u64 *second, const u64 *const *columns,
              const size_t *lengths, size_t k, const u64 *rows, size_t length, size_t r, size_t blocks)
{
    for (size_t i = 0; i < primes; i++)
        for (size_t c = 0; c < N / LANES; c++)
            for (size_t j = 0; j < k; j++) {
                const size_t place = i * (N / LANES) + c;
                const chunk at = {
                    first + j * r * primes + i, second + j * r * primes * N + place * LANES, primes, primes * N,
                    columns[j] + place * lengths[j] * 2 * LANES, rows + place * length * LANES, primes * N * length,
                    r, blocks,
                };
                variants[which]->sums(q + i, &at);
            }
}
