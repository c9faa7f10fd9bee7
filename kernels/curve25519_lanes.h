/* The curve's algorithms over LANES points at a time, written once: the ladder, the batched inversion, Elligator2.
 *
 * A variant's C file defines, before it includes this one: LANES, FAST (its target attribute), the types `wide` (what
 * products, sums and differences give) and `tight` (what `carry` gives and products take), and the functions
 * multiply, square, add, subtract, add_small, small, widen, carry, scaled, choose, load, unload: results first, and a
 * result may be an operand too.
 * Only a `wide` fresh from a product may enter add or subtract, and the result only carry: the types say so as far as
 * C lets them, docs/explanation/curve.md has the bounds.
 *
 * Constant time: loops run on counts; what depends on scalars or identifiers is masks and arithmetic.
 */

#define GROUPS 64 /* vectors that share one inversion */

typedef struct { wide x, z; } projective;

/* RFC 7748 section 5, the doubling half of a step: A = x + z and B = x - z are given */
FAST static inline void doubled(projective *out, const tight *a, const tight *b)
{
    wide aa_wide, bb_wide, e_wide, sum_wide;
    tight aa, bb, e, sum;
    square(&aa_wide, a);
    square(&bb_wide, b);
    subtract(&e_wide, &aa_wide, &bb_wide);
    carry(&aa, &aa_wide);
    carry(&bb, &bb_wide);
    carry(&e, &e_wide);
    multiply(&out->x, &aa, &bb);
    scaled(&sum_wide, &e, &aa); /* AA + a24 E */
    carry(&sum, &sum_wide);
    multiply(&out->z, &e, &sum);
}

FAST static inline void sum_and_difference(tight *a, tight *b, const projective *from)
{
    wide sum, difference;
    add(&sum, &from->x, &from->z);
    subtract(&difference, &from->x, &from->z);
    carry(a, &sum);
    carry(b, &difference);
}

/* X and Z of scalar times u for every lane. `two` is the point doubled last, `sum` the other of the ladder's pair.
 * Which of them is doubled next is a choice of operands: the addition half is the same either way up to a sign
 * that its square loses, so nothing is ever swapped. */
FAST static void ladder(tight *x, tight *z, const tight *u, const u8 *choices)
{
    projective two, sum;
    wide da, cb, plus, minus;
    tight a, b, c, d, plus_tight, minus_tight;
    widen(&sum.x, u);
    small(&sum.z, 1);
    sum_and_difference(&a, &b, &sum);
    doubled(&two, &a, &b); /* the top bit of a clamped scalar is set: the pair is (u, 2u) */
    for (int i = 0; i < STEPS; i++) {
        sum_and_difference(&a, &b, &two);
        sum_and_difference(&c, &d, &sum);
        multiply(&da, &d, &a);
        multiply(&cb, &c, &b);
        add(&plus, &da, &cb);
        subtract(&minus, &da, &cb);
        carry(&plus_tight, &plus);
        carry(&minus_tight, &minus);
        square(&sum.x, &plus_tight);
        square(&minus, &minus_tight);
        carry(&minus_tight, &minus);
        multiply(&sum.z, &minus_tight, u);
        choose(&a, &c, choices[i]);
        choose(&b, &d, choices[i]);
        doubled(&two, &a, &b);
    }
    sum_and_difference(&a, &b, &two);
    sum_and_difference(&c, &d, &sum);
    choose(&a, &c, choices[STEPS]);
    choose(&b, &d, choices[STEPS]);
    for (int i = 0; i < 3; i++) { /* the low three bits are clear */
        doubled(&two, &a, &b);
        if (i < 2)
            sum_and_difference(&a, &b, &two);
    }
    carry(x, &two.x);
    carry(z, &two.z);
}

/* rows of choices from the scalars: bit 'lane' of row i says whether bits 253 - i and 254 - i of it differ */
FAST static void choices_of(u8 choices[STEPS + 1], const u8 *scalars, size_t count, int one_scalar)
{
    memset(choices, 0, STEPS + 1);
    for (size_t lane = 0; lane < LANES; lane++) {
        const u8 *scalar = scalars + 32 * (one_scalar ? 0 : lane < count ? lane : count - 1);
        u8 before = 1; /* bit 254 after clamping */
        for (int i = 0; i < STEPS; i++) {
            const int at = 253 - i;
            const u8 bit = scalar[at / 8] >> (at % 8) & 1;
            choices[i] |= (u8)((before ^ bit) << lane);
            before = bit;
        }
        choices[STEPS] |= (u8)(before << lane); /* whether 0, not 1, is the ladder's other half at the end */
        before = 0;
    }
}

FAST ONCE static void times(tight *out, const tight *a, const tight *b)
{
    wide product;
    multiply(&product, a, b);
    carry(out, &product);
}

#define TOGETHER 4 /* vectors whose powers run side by side, to hide the latency of one chain */

FAST ONCE static void square_all(tight *to, const tight *from, int turns, size_t count)
{
    for (size_t k = 0; k < count; k++)
        to[k] = from[k];
    for (int i = 0; i < turns; i++)
        for (size_t k = 0; k < count; k++) {
            wide product;
            square(&product, &to[k]);
            carry(&to[k], &product);
        }
}

FAST ONCE static void times_all(tight *to, const tight *a, const tight *b, size_t count)
{
    for (size_t k = 0; k < count; k++)
        times(&to[k], &a[k], &b[k]);
}

/* x^(2^250 - 1), and x^11 on the way: the chain of Bernstein's first paper on the curve; count <= TOGETHER */
FAST static void power_chain(tight *x250, tight *x11, const tight *x, size_t count)
{
    tight t[TOGETHER], short_power[TOGETHER], ten[TOGETHER], fifty[TOGETHER];
    square_all(t, x, 1, count);
    square_all(short_power, t, 2, count);
    times_all(short_power, short_power, x, count); /* 9 */
    times_all(x11, short_power, t, count);
    square_all(t, x11, 1, count);
    times_all(short_power, t, short_power, count); /* 2^5 - 1 */
    square_all(t, short_power, 5, count);
    times_all(ten, t, short_power, count); /* 2^10 - 1 */
    square_all(t, ten, 10, count);
    times_all(short_power, t, ten, count); /* 2^20 - 1 */
    square_all(t, short_power, 20, count);
    times_all(t, t, short_power, count); /* 2^40 - 1 */
    square_all(t, t, 10, count);
    times_all(fifty, t, ten, count); /* 2^50 - 1 */
    square_all(t, fifty, 50, count);
    times_all(short_power, t, fifty, count); /* 2^100 - 1 */
    square_all(t, short_power, 100, count);
    times_all(t, t, short_power, count); /* 2^200 - 1 */
    square_all(t, t, 50, count);
    times_all(x250, t, fifty, count);
}

/* w^((p - 1)/2), in place: (p - 1)/2 = 2^254 - 10 = 16 (2^250 - 1) + 6 */
FAST static void characters(tight *w, size_t count)
{
    tight x250[TOGETHER], six[TOGETHER], x11[TOGETHER];
    power_chain(x250, x11, w, count);
    square_all(six, w, 1, count);
    times_all(six, six, w, count);
    square_all(six, six, 1, count);
    square_all(x250, x250, 4, count);
    times_all(w, x250, six, count);
}

FAST static void load_points(tight *x, const u8 *points, size_t count)
{
    lanes51 raw;
    static const u8 nine[32] = { 9 }; /* fills the lanes after the last point */
    for (size_t lane = 0; lane < LANES; lane++) {
        u64 limbs[5];
        unpack_point(limbs, lane < count ? points + 32 * lane : nine);
        for (int i = 0; i < 5; i++)
            raw.limb[i][lane] = limbs[i];
    }
    load(x, &raw);
}

FAST ONCE static void unload_frozen(lanes51 *raw, const tight *x)
{
    unload(raw, x);
    for (size_t lane = 0; lane < LANES; lane++) {
        u64 limbs[5];
        for (int i = 0; i < 5; i++)
            limbs[i] = raw->limb[i][lane];
        freeze(limbs);
        for (int i = 0; i < 5; i++)
            raw->limb[i][lane] = limbs[i];
    }
}

/* 1/z of `groups` vectors, none of them zero in any lane, with one inversion in all: Montgomery's trick */
FAST static void invert_all(tight *z, size_t groups)
{
    tight before[GROUPS], x250, x11, inverse, one;
    before[0] = z[0];
    for (size_t g = 1; g < groups; g++)
        times(&before[g], &before[g - 1], &z[g]);
    power_chain(&x250, &x11, &before[groups - 1], 1);
    square_all(&inverse, &x250, 5, 1);
    times(&inverse, &inverse, &x11); /* exponent p - 2 = 2^255 - 21 */
    for (size_t g = groups - 1; g > 0; g--) {
        times(&one, &inverse, &before[g - 1]);
        times(&inverse, &inverse, &z[g]);
        z[g] = one;
    }
    z[0] = inverse;
}

FAST static void multiply_points(u8 *out, const u8 *points, size_t n, const u8 *scalars, int one_scalar, u8 *nonzero)
{
    u8 choices[STEPS + 1];
    tight x[GROUPS], z[GROUPS];
    u64 live[GROUPS][LANES], all = ~(u64)0;
    if (one_scalar && n)
        choices_of(choices, scalars, LANES, 1);
    for (size_t done = 0; done < n; done += GROUPS * LANES) {
        const size_t count = n - done < GROUPS * LANES ? n - done : GROUPS * LANES;
        const size_t groups = (count + LANES - 1) / LANES;
        for (size_t g = 0; g < groups; g++) {
            const size_t at = done + g * LANES;
            lanes51 raw;
            tight u;
            load_points(&u, points + 32 * at, n - at);
            if (!one_scalar)
                choices_of(choices, scalars + 32 * at, n - at, 0);
            ladder(&x[g], &z[g], &u, choices);
            unload_frozen(&raw, &z[g]);
            for (size_t lane = 0; lane < LANES; lane++) { /* a zero z becomes 1, and its row zero at the end */
                u64 limbs[5];
                for (int i = 0; i < 5; i++)
                    limbs[i] = raw.limb[i][lane];
                live[g][lane] = any(limbs);
                raw.limb[0][lane] |= ~live[g][lane] & 1;
            }
            load(&z[g], &raw);
        }
        invert_all(z, groups);
        for (size_t g = 0; g < groups; g++) {
            lanes51 raw;
            tight u;
            times(&u, &x[g], &z[g]);
            unload_frozen(&raw, &u);
            for (size_t lane = 0; lane < LANES && done + g * LANES + lane < n; lane++) {
                u64 limbs[5];
                for (int i = 0; i < 5; i++)
                    limbs[i] = raw.limb[i][lane] & live[g][lane];
                all &= any(limbs);
                pack_point(out + 32 * (done + g * LANES + lane), limbs);
            }
        }
    }
    *nonzero &= (u8)(all & 1);
    wipe(choices, sizeof choices);
}

/* --- Elligator2: RFC 9380 section 6.7.1, u only -------------------------------------------------------------- */

#define J 486662

/* limbs of the frozen y = J/d and the character's mask to the map's u: -y where g(-y) is a square, else y - J */
static inline void map_output(u8 *out, const u64 y[5], u64 is_square)
{
    u64 u[5];
    for (int i = 0; i < 5; i++) {
        const u64 twice_p = i ? 2 * MASK51 : 2 * (MASK51 - 18);
        u[i] = ((twice_p - y[i]) & is_square) | ((y[i] + twice_p - (i ? 0 : J)) & ~is_square);
    }
    freeze(u);
    pack_point(out, u);
}

/* d = 1 + 2 r^2 and w = J d (J^2 + d^2 - J^2 d), which has the character of g(-J/d) */
FAST static void candidate(tight *d, tight *w, const tight *r)
{
    wide sum, dd, jjd;
    tight j, jj, t, jd;
    small(&sum, J);
    carry(&j, &sum);
    small(&sum, (u64)J * J);
    carry(&jj, &sum);
    square(&sum, r);
    add(&sum, &sum, &sum);
    add_small(&sum, 1);
    carry(d, &sum);
    square(&dd, d);
    multiply(&jjd, &jj, d);
    subtract(&sum, &dd, &jjd);
    add_small(&sum, (u64)J * J);
    carry(&t, &sum);
    times(&jd, &j, d);
    times(w, &jd, &t);
}

FAST static void map_items(u8 *out, const items *from, size_t n)
{
    tight d[GROUPS], w[GROUPS];
    u64 is_square[GROUPS][LANES];
    hash_start start;
    lanes51 raw;
    hash_begin(&start, from);
    for (size_t done = 0; done < n; done += GROUPS * LANES) {
        const size_t count = n - done < GROUPS * LANES ? n - done : GROUPS * LANES;
        const size_t groups = (count + LANES - 1) / LANES;
        for (size_t g = 0; g < groups; g++) {
            hash_to_field(&raw, &start, from, done + g * LANES, n);
            tight r;
            load(&r, &raw);
            candidate(&d[g], &w[g], &r);
        }
        for (size_t g = 0; g < groups; g += TOGETHER)
            characters(w + g, groups - g < TOGETHER ? groups - g : TOGETHER);
        for (size_t g = 0; g < groups; g++) {
            unload_frozen(&raw, &w[g]);
            for (size_t lane = 0; lane < LANES; lane++) /* 1 or p - 1, and p - 1 is even */
                is_square[g][lane] = (u64)0 - (raw.limb[0][lane] & 1);
        }
        invert_all(d, groups); /* d is never zero: -1/2 is no square */
        for (size_t g = 0; g < groups; g++) {
            wide j_wide;
            tight j, y;
            small(&j_wide, J);
            carry(&j, &j_wide);
            times(&y, &d[g], &j);
            unload_frozen(&raw, &y);
            for (size_t lane = 0; lane < LANES && done + g * LANES + lane < n; lane++) {
                u64 limbs[5];
                for (int i = 0; i < 5; i++)
                    limbs[i] = raw.limb[i][lane];
                map_output(out + 32 * (done + g * LANES + lane), limbs, is_square[g][lane]);
            }
        }
    }
}

/* for tests: raw limbs in, raw limbs out, so that they can stand at their bounds. n times 4 tights a, b, c, d to one */
FAST static void probe(int operation, u64 *out, const u64 *in, size_t n)
{
    tight x[4], result;
    wide ab, cd;
    for (size_t i = 0; i < n; i++) {
        memcpy(x, in + i * 4 * (sizeof result / sizeof(u64)), sizeof x);
        if (operation == 5) { /* out of the variant's limbs, to the number below p, and back */
            lanes51 raw;
            unload_frozen(&raw, &x[0]);
            load(&result, &raw);
            memcpy(out + i * (sizeof result / sizeof(u64)), &result, sizeof result);
            continue;
        }
        multiply(&cd, &x[2], &x[3]);
        if (operation == 1)
            square(&ab, &x[0]);
        else if (operation == 4)
            scaled(&ab, &x[0], &x[1]);
        else
            multiply(&ab, &x[0], &x[1]);
        if (operation == 2)
            add(&ab, &ab, &cd);
        if (operation == 3)
            subtract(&ab, &ab, &cd);
        carry(&result, &ab);
        memcpy(out + i * (sizeof result / sizeof(u64)), &result, sizeof result);
    }
}
