//! The made-up orders of the demonstration, one JSON object a line: Kafka's own producer sends lines of this file.

use std::fmt::Write as _;

const LINES: u32 = 5_000;
const ITEMS: [&str; 8] = ["anchor", "bollard", "capstan", "davit", "fender", "hawser", "mooring line", "windlass"];
const PORTS: [&str; 6] = ["Rotterdam", "Hamburg", "Antwerp", "Valencia", "Piraeus", "Gdansk"];

/// The text of the file; the same every time.
pub(super) fn lines() -> String {
    let mut text = String::new();
    let mut seed = 0x9e37_79b9_u32;
    for order in 0..LINES {
        // xorshift32: variety is all that is asked of it.
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        let pick = |words: &'static [&'static str], shift: u32| {
            words.iter().cycle().nth(((seed >> shift) & 0xff) as usize).copied().unwrap_or_default()
        };
        let _ = writeln!(
            text,
            "{{\"order\":{order},\"item\":\"{}\",\"quantity\":{},\"port\":\"{}\",\"price_cents\":{},\"note\":\"{seed:08x}{:08x}\"}}",
            pick(&ITEMS, 3),
            1 + (seed & 0xf),
            pick(&PORTS, 11),
            500 + (seed >> 4) % 500_000,
            seed.rotate_left(9),
        );
    }
    text
}
