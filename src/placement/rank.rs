//! Weighted rendezvous in whole numbers: who prefers which server.
//!
//! The textbook form gives every pair a pseudo-random u in (0, 1) and takes the server with the
//! greatest −w / ln u, which is the one with the smallest −log2 u / w. Two doors must agree on
//! every user, whatever machine and library they run on (P3), and the logarithm of a mathematical
//! library is not the same to the last bit everywhere. So the one here is a table with
//! interpolation in fixed point, and the division is a multiplication by a reciprocal in whole
//! numbers. For the same reason the hash is spelled out: those of the standard library and of
//! hash-table crates may change with a release.

/// A name's share in the hash of a pair. Computed once a name, not once a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NameHash(u64);

impl NameHash {
    /// FNV-1a, then mixed: alone it leaves names that differ in their last letter too close.
    pub(super) fn of(name: &str) -> Self {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(mix(hash))
    }
}

/// A server as users see it. One of twice the weight is the nearest of twice as many users.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attraction {
    server: NameHash,
    /// 2⁶⁴ / w.
    inverse_weight: u64,
}

impl Attraction {
    /// A server of a name and a weight.
    pub(super) fn of(server: NameHash, weight: u64) -> Self {
        Self { server, inverse_weight: u64::MAX / weight.max(1) }
    }

    /// How far a user is from this server: −log2 u / w. The nearest server ranks highest.
    pub(super) fn distance(self, user: NameHash) -> u128 {
        let minus_log2_u = minus_log2(mix(user.0 ^ self.server.0.rotate_left(32)));
        u128::from(minus_log2_u) * u128::from(self.inverse_weight)
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every input bit reaches every output
/// bit.
const fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// −log2(hash / 2⁶⁴) in 32.32 fixed point; between 1 and 64 · 2³².
fn minus_log2(hash: u64) -> u64 {
    // Zero has no logarithm; it shares that of one.
    let hash = hash | 1;
    let zeros = hash.leading_zeros();
    // hash = 2^(63 - zeros) · m with m in [1, 2): the top bit, eight bits that choose the table's
    // entry, 32 bits that interpolate.
    let mantissa = hash << zeros;
    let entry = usize::from((mantissa >> 55).to_le_bytes()[0]);
    let between = (mantissa >> 23) & 0xffff_ffff;
    let (low, high) = (LOG2[entry], LOG2[entry + 1]);
    let log2 = low + (((high - low) * between) >> 32);
    (u64::from(zeros) + 1) * ONE - log2
}

/// 1 in 32.32 fixed point.
const ONE: u64 = 1 << 32;

/// log2(1 + i / 256) in 32.32 fixed point.
const LOG2: [u64; 257] = log2_table();

const fn log2_table() -> [u64; 257] {
    let mut table = [0; 257];
    let mut i = 0;
    while i < 256 {
        table[i] = log2_of((256 + i as u64) << 55);
        i += 1;
    }
    table[256] = ONE;
    table
}

/// log2 of x / 2⁶³ in [1, 2): a square that reaches 2 is one more bit of the logarithm.
const fn log2_of(x: u64) -> u64 {
    let mut x = x as u128;
    let mut log2 = 0;
    let mut bit = 0;
    while bit < 32 {
        x = (x * x) >> 63;
        log2 <<= 1;
        if x >> 64 != 0 {
            x >>= 1;
            log2 |= 1;
        }
        bit += 1;
    }
    log2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_right_to_a_millionth() {
        let mut rng = fastrand::Rng::with_seed(1);
        for hash in (0..10_000).map(|_| rng.u64(..)).chain([0, 1, 2, 1 << 63, u64::MAX]) {
            let exact = 64.0 - ((hash | 1) as f64).log2();
            let ours = minus_log2(hash) as f64 / ONE as f64;
            assert!((exact - ours).abs() < 4e-6, "{hash}: {exact} {ours}");
            assert!(minus_log2(hash) > 0);
        }
    }

    #[test]
    fn ranks_are_the_same_on_every_machine() {
        // Pinned: other numbers would give users other favourites after an upgrade.
        let distance = |user, server, weight| {
            Attraction::of(NameHash::of(server), weight).distance(NameHash::of(user))
        };
        assert_eq!(distance("anna", "ucs1", 1 << 32) >> 32, 3_493_449_014);
        assert_eq!(distance("anna", "ucs2", 1 << 32) >> 32, 10_215_285_467);
        assert_eq!(distance("änne", "ucs1", 1 << 31) >> 32, 21_125_976_075);
    }

    #[test]
    fn a_server_of_three_times_the_weight_is_nearest_to_three_times_as_many() {
        let small = Attraction::of(NameHash::of("ucs1"), 100);
        let large = Attraction::of(NameHash::of("ucs2"), 300);
        let to_large = (0..40_000)
            .map(|n| NameHash::of(&format!("user{n}")))
            .filter(|user| large.distance(*user) < small.distance(*user))
            .count();
        assert!((29_500..30_500).contains(&to_large), "{to_large}");
    }

    #[test]
    fn a_heavier_server_only_gains_users() {
        let light = Attraction::of(NameHash::of("ucs1"), 100);
        let heavier = Attraction::of(NameHash::of("ucs1"), 110);
        let other = Attraction::of(NameHash::of("ucs2"), 100);
        let count = |server: Attraction| {
            let users = (0..1_000).map(|n| NameHash::of(&format!("user{n}")));
            users
                .filter(|user| server.distance(*user) < other.distance(*user))
                .map(|user| user.0)
                .collect::<std::collections::BTreeSet<_>>()
        };
        assert!(count(heavier).is_superset(&count(light)));
        assert!(count(heavier).len() > count(light).len());
    }
}
