/* SHA-256 of many short messages that begin alike: SHA-256(prefix || item_i), cut to `width` bytes.
 *
 * A plain shared library for ctypes: no Python, no global state, no allocation. Variant 0 is portable, variant 1 uses
 * the SHA instructions of x86-64. Time depends on lengths only. Source: FIPS 180-4. Twin: hashlib, in digest.py.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define VERSION 1
#define BLOCK 64

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;
typedef void compressor(u32 state[8], const u8 *blocks, size_t count);
typedef void pair_compressor(u32 states[2][8], const u8 *const blocks[2]);

static const u32 start_state[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };

static const u32 k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static inline u32 big_endian(const u8 *at)
{
    return (u32)at[0] << 24 | (u32)at[1] << 16 | (u32)at[2] << 8 | at[3];
}

static inline u32 ror(u32 x, int n)
{
    return x >> n | x << (32 - n);
}

static void compress_portable(u32 state[8], const u8 *blocks, size_t count)
{
    for (; count; count--, blocks += BLOCK) {
        u32 w[64], a = state[0], b = state[1], c = state[2], d = state[3];
        u32 e = state[4], f = state[5], g = state[6], h = state[7];
        for (int t = 0; t < 16; t++)
            w[t] = big_endian(blocks + 4 * t);
        for (int t = 16; t < 64; t++) {
            const u32 early = ror(w[t - 15], 7) ^ ror(w[t - 15], 18) ^ w[t - 15] >> 3;
            const u32 late = ror(w[t - 2], 17) ^ ror(w[t - 2], 19) ^ w[t - 2] >> 10;
            w[t] = w[t - 16] + early + w[t - 7] + late;
        }
        for (int t = 0; t < 64; t++) {
            const u32 first = h + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) + (g ^ (e & (f ^ g))) + k[t] + w[t];
            const u32 second = (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22)) + ((a & b) | (c & (a | b)));
            h = g;
            g = f;
            f = e;
            e = d + first;
            d = c;
            c = b;
            b = a;
            a = first + second;
        }
        state[0] += a;
        state[1] += b;
        state[2] += c;
        state[3] += d;
        state[4] += e;
        state[5] += f;
        state[6] += g;
        state[7] += h;
    }
}

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_SHA 1
#include <cpuid.h>
#include <immintrin.h>

/* One block each of `lanes` messages, 1 or 2: a round waits for the one before, so two messages take little longer than
 * one. The unit works on the words (a, b, e, f) and (c, d, g, h), highest first; four rounds a turn. */
#define SHA_TARGET __attribute__((target("sha,sse4.1")))
SHA_TARGET __attribute__((always_inline)) static inline void blocks_sha(u32 (*states)[8], const u8 *const *blocks,
                                                                        const int lanes)
{
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i abef[2], cdgh[2], abef_before[2], cdgh_before[2], w[2][4];
    for (int l = 0; l < lanes; l++) {
        const __m128i low = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)states[l]), 0xB1);
        const __m128i high = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(states[l] + 4)), 0x1B);
        abef[l] = abef_before[l] = _mm_alignr_epi8(low, high, 8);
        cdgh[l] = cdgh_before[l] = _mm_blend_epi16(high, low, 0xF0);
        for (int i = 0; i < 4; i++)
            w[l][i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(blocks[l] + 16 * i)), swap);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
        const __m128i constants = _mm_loadu_si128((const __m128i *)(k + 4 * i));
#pragma GCC unroll 2
        for (int l = 0; l < lanes; l++) {
            const __m128i words = _mm_add_epi32(w[l][i % 4], constants);
            cdgh[l] = _mm_sha256rnds2_epu32(cdgh[l], abef[l], words);
            abef[l] = _mm_sha256rnds2_epu32(abef[l], cdgh[l], _mm_shuffle_epi32(words, 0x0E));
            if (i < 12) { /* the words four turns on */
                const __m128i next = _mm_add_epi32(_mm_sha256msg1_epu32(w[l][i % 4], w[l][(i + 1) % 4]),
                                                   _mm_alignr_epi8(w[l][(i + 3) % 4], w[l][(i + 2) % 4], 4));
                w[l][i % 4] = _mm_sha256msg2_epu32(next, w[l][(i + 3) % 4]);
            }
        }
    }
    for (int l = 0; l < lanes; l++) {
        const __m128i low = _mm_shuffle_epi32(_mm_add_epi32(abef[l], abef_before[l]), 0x1B);
        const __m128i high = _mm_shuffle_epi32(_mm_add_epi32(cdgh[l], cdgh_before[l]), 0xB1);
        _mm_storeu_si128((__m128i *)states[l], _mm_blend_epi16(low, high, 0xF0));
        _mm_storeu_si128((__m128i *)(states[l] + 4), _mm_alignr_epi8(high, low, 8));
    }
}

SHA_TARGET static void compress_sha(u32 state[8], const u8 *blocks, size_t count)
{
    for (; count; count--, blocks += BLOCK)
        blocks_sha((u32(*)[8])state, &blocks, 1);
}

SHA_TARGET static void compress_sha_pair(u32 states[2][8], const u8 *const blocks[2])
{
    blocks_sha(states, blocks, 2);
}

static int has_sha(void) /* __builtin_cpu_supports of older compilers does not know "sha" */
{
    unsigned a, b, c, d;
    return __builtin_cpu_supports("sse4.1") && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1);
}
#endif

int digest_version(void)
{
    return VERSION;
}

int digest_best_variant(void)
{
#ifdef HAVE_SHA
    return has_sha();
#else
    return 0;
#endif
}

static inline void put_big_endian(u8 *at, u32 word)
{
    at[0] = (u8)(word >> 24);
    at[1] = (u8)(word >> 16);
    at[2] = (u8)(word >> 8);
    at[3] = (u8)word;
}

/* Pad what stands in `tail`, `held` bytes before zeros; of the one or two blocks that this makes the last one is left. */
static const u8 *pad(compressor *compress, u32 state[8], u8 tail[2 * BLOCK], size_t held, u64 length)
{
    u8 *last = tail + (held < BLOCK - 8 ? 0 : BLOCK);
    tail[held] = 0x80;
    put_big_endian(last + BLOCK - 8, (u32)(length >> 29));
    put_big_endian(last + BLOCK - 4, (u32)(length << 3));
    if (last != tail)
        compress(state, tail, 1);
    return last;
}

static void cut(u8 *out, const u32 state[8], size_t width)
{
    u8 digest[32];
    for (int i = 0; i < 8; i++)
        put_big_endian(digest + 4 * i, state[i]);
    memcpy(out, digest, width);
}

/* out [n][width], width <= 32; item i is data[offsets[i]] .. data[offsets[i + 1]], or row i of `row` bytes when offsets
 * is null. The last blocks are taken two at a time. */
void digest_sha256(int variant, u8 *out, size_t width, const u8 *prefix, size_t prefix_size, const u8 *data,
                   const int64_t *offsets, size_t row, size_t n)
{
    compressor *compress = compress_portable;
    pair_compressor *compress_pair = 0;
    u32 begun[8], states[2][8];
    u8 tails[2][2 * BLOCK];
    const u8 *last[2];
    const size_t kept = prefix_size % BLOCK;
#ifdef HAVE_SHA
    if (variant) {
        compress = compress_sha;
        compress_pair = compress_sha_pair;
    }
#else
    (void)variant;
#endif
    memcpy(begun, start_state, sizeof begun);
    compress(begun, prefix, prefix_size / BLOCK);
    for (size_t i = 0; i < n; i++) {
        const u8 *item = data + (offsets ? (size_t)offsets[i] : i * row);
        size_t left = offsets ? (size_t)(offsets[i + 1] - offsets[i]) : row, held = kept;
        const u64 length = (u64)prefix_size + left;
        const size_t l = i % 2;
        memcpy(states[l], begun, sizeof begun);
        memcpy(tails[l], prefix + (prefix_size - kept), kept);
        if (held + left >= BLOCK) {
            const size_t first = BLOCK - held;
            memcpy(tails[l] + held, item, first);
            compress(states[l], tails[l], 1);
            compress(states[l], item + first, (left - first) / BLOCK);
            item += first + (left - first) / BLOCK * BLOCK;
            left = (left - first) % BLOCK;
            held = 0;
        }
        memset(tails[l] + held, 0, 2 * BLOCK - held);
        memcpy(tails[l] + held, item, left);
        last[l] = pad(compress, states[l], tails[l], held + left, length);
        if (l == 0 && i + 1 < n)
            continue;
        if (l && compress_pair)
            compress_pair(states, last);
        else
            for (size_t j = 0; j <= l; j++)
                compress(states[j], last[j], 1);
        for (size_t j = 0; j <= l; j++)
            cut(out + (i - l + j) * width, states[j], width);
    }
}
