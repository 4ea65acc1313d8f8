//! Every target with its seeds, cut short, spliced and with bytes changed: the same inputs in every run.

use peerage::base::Rng;

use super::targets;

/// One change more or less likely to be looked at than noise.
fn change(rng: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let pick = |rng: &mut Rng| seeds[rng.below(seeds.len() as u64) as usize].clone();
    let mut bytes = pick(rng);
    for _ in 0..=rng.below(4) {
        let at = rng.below(bytes.len() as u64 + 1) as usize;
        match rng.below(5) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, rng.bytes::<1>()[0]),
            2 => {
                let other = pick(rng);
                bytes.splice(at.., other[rng.below(other.len() as u64 + 1) as usize..].iter().copied());
            }
            _ => {
                // Small numbers, the ends of ranges, and one bit.
                let new = [0, 1, 0x17, 0x18, 0x1b, 0x7f, 0x80, 0xff, rng.bytes::<1>()[0]][rng.below(9) as usize];
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = if rng.below(2) == 0 { new } else { *byte ^ (1 << rng.below(8)) };
                }
            }
        }
    }
    bytes
}

#[test]
fn nothing_from_elsewhere_makes_them_panic() {
    for (name, target, seeds) in targets() {
        assert!(!seeds.is_empty(), "{name} has a seed");
        let mut rng = Rng::from_seed([9; 32]);
        let runs = if name == "peer" { 300 } else { 3_000 };
        println!("{name}: {runs} inputs");
        seeds.iter().for_each(|seed| target(seed));
        target(&[]);
        for _ in 0..runs {
            target(&change(&mut rng, &seeds));
        }
    }
}
