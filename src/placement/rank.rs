//! Weighted rendezvous in whole numbers: who prefers which server.
//!
//! The textbook form gives every pair a pseudo-random u in (0, 1) and takes the server with the
//! greatest −w / ln u. Two doors must agree on every user, whatever machine and library they run
//! on (P3), and `ln` of a mathematical library is not the same to the last bit everywhere. So the
//! logarithm here is a table with interpolation in fixed point, and ranks are compared by
//! cross-multiplication: nothing is rounded differently anywhere. For the same reason the hash is
//! spelled out: those of the standard library and of hash-table crates may change with a release.

use std::cmp::Ordering;

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

/// How much a user likes a server. Greater is better.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rank {
    /// −log2 u in 32.32 fixed point, at least 1.
    distance: u64,
    /// w.
    weight: u64,
}

impl Rank {
    /// The rank of one pair. A server of twice the weight is preferred by twice as many users.
    pub(super) fn of(user: NameHash, server: NameHash, weight: u64) -> Self {
        Self { distance: minus_log2(mix(user.0 ^ server.0.rotate_left(32))), weight }
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        let ours = u128::from(self.weight) * u128::from(other.distance);
        let theirs = u128::from(other.weight) * u128::from(self.distance);
        ours.cmp(&theirs)
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Rank {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Rank {}

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
        let distance =
            |user, server| Rank::of(NameHash::of(user), NameHash::of(server), 1).distance;
        assert_eq!(distance("anna", "ucs1"), 3_493_449_015);
        assert_eq!(distance("anna", "ucs2"), 10_215_285_470);
        assert_eq!(distance("änne", "ucs1"), 10_562_988_039);
    }

    #[test]
    fn a_server_of_three_times_the_weight_is_preferred_three_times_as_often() {
        let (small, large) = (NameHash::of("ucs1"), NameHash::of("ucs2"));
        let users = 40_000;
        let to_large = (0..users)
            .map(|n| NameHash::of(&format!("user{n}")))
            .filter(|user| Rank::of(*user, large, 300) > Rank::of(*user, small, 100))
            .count();
        assert!((29_500..30_500).contains(&to_large), "{to_large}");
    }

    #[test]
    fn a_heavier_server_only_gains_users() {
        let (a, b) = (NameHash::of("ucs1"), NameHash::of("ucs2"));
        for n in 0..1_000 {
            let user = NameHash::of(&format!("user{n}"));
            if Rank::of(user, a, 100) > Rank::of(user, b, 100) {
                assert!(Rank::of(user, a, 110) > Rank::of(user, b, 100));
            }
        }
    }
}
