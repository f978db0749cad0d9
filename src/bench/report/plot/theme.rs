//! Colours and sizes of pictures.

use std::fmt::Write;

use plotters::style::RGBColor;

/// A colour on a light ground, and its counterpart on a dark one.
pub type Ink = (RGBColor, RGBColor);

/// What everything stands on.
pub const GROUND: Ink = (RGBColor(255, 255, 255), RGBColor(21, 27, 35));
/// Titles.
pub const TEXT: Ink = (RGBColor(31, 35, 40), RGBColor(230, 237, 243));
/// Numbers and names of axes.
pub const MUTED: Ink = (RGBColor(89, 99, 110), RGBColor(160, 169, 178));
/// The grid's lines at numbers.
pub const GRID: Ink = (RGBColor(214, 219, 225), RGBColor(53, 61, 70));
/// The lines between.
pub const FINE: Ink = (RGBColor(237, 240, 243), RGBColor(34, 41, 50));

/// Colours of data: apart from each other also as seen without one of the three kinds of cones, and from their ground.
const DATA: [Ink; 6] = [
    (RGBColor(8, 70, 174), RGBColor(78, 139, 245)),
    (RGBColor(220, 92, 12), RGBColor(253, 118, 64)),
    (RGBColor(8, 165, 111), RGBColor(37, 214, 155)),
    (RGBColor(150, 64, 121), RGBColor(190, 114, 168)),
    (RGBColor(69, 76, 27), RGBColor(240, 225, 80)),
    (RGBColor(125, 141, 229), RGBColor(211, 230, 255)),
];
/// Lines that would have the colour of another are dashed, and then dotted.
const DASHES: [&str; 3] = ["none", "24 16", "8 14"];

/// Units of a picture to a pixel: places in it are whole numbers, and curves should not show steps.
pub const UNIT: i32 = 4;
/// Sizes of text, in pixels.
pub const TITLE_SIZE: i32 = 16;
/// Of all text but titles.
pub const TEXT_SIZE: i32 = 13;

/// The colour of the nth line. Those that share a colour differ by so little that only the style sheet tells them apart.
pub fn ink(n: usize) -> RGBColor {
    let RGBColor(red, green, blue) = DATA[n % DATA.len()].0;
    RGBColor(red, green, blue + (n / DATA.len() % DASHES.len()) as u8)
}

/// The style sheet: dashes, and the colours for those who prefer dark.
pub fn style_sheet() -> String {
    let mut dashes = String::new();
    let mut dark = String::new();
    for n in 0..DATA.len() * DASHES.len() {
        let (light, dash) = (hex(ink(n)), DASHES[n / DATA.len()]);
        let _ = write!(dashes, "svg [stroke=\"{light}\"]{{stroke-dasharray:{dash}}}");
        counterpart(&mut dark, ink(n), DATA[n % DATA.len()].1);
    }
    for (light, counter) in [GROUND, TEXT, MUTED, GRID, FINE] {
        counterpart(&mut dark, light, counter);
    }
    format!("svg polyline{{stroke-linejoin:round}}{dashes}@media(prefers-color-scheme:dark){{{dark}}}")
}

fn counterpart(sheet: &mut String, light: RGBColor, dark: RGBColor) {
    let (light, dark) = (hex(light), hex(dark));
    let _ = write!(sheet, "svg [fill=\"{light}\"]{{fill:{dark}}}svg [stroke=\"{light}\"]{{stroke:{dark}}}");
}

/// As SVG has it.
pub fn hex(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left of linear red, green and blue without one kind of cones: Machado, Oliveira and Fernandes, "A
    /// Physiologically-based Model for Simulation of Color Vision Deficiency" (2009), at full severity.
    const SIGHTS: [[[f64; 3]; 3]; 4] = [
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ];

    fn linear(RGBColor(red, green, blue): RGBColor) -> [f64; 3] {
        [red, green, blue].map(|part| {
            let part = f64::from(part) / 255.0;
            if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        })
    }

    fn seen(color: [f64; 3], sight: &[[f64; 3]; 3]) -> [f64; 3] {
        sight.map(|row| row.iter().zip(color).map(|(weight, part)| weight * part).sum::<f64>().clamp(0.0, 1.0))
    }

    fn luminance([red, green, blue]: [f64; 3]) -> f64 {
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    /// CIELAB, for the white of a screen.
    fn lab(color: [f64; 3]) -> [f64; 3] {
        let [red, green, blue] = color;
        let root = |part: f64| if part > 0.008856 { part.cbrt() } else { 7.787 * part + 16.0 / 116.0 };
        let x = root((0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.95047);
        let y = root(luminance(color));
        let z = root((0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.08883);
        [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
    }

    /// WCAG 2.2, 1.4.11 asks for 3.
    fn contrast(one: RGBColor, other: RGBColor) -> f64 {
        let (one, other) = (luminance(linear(one)), luminance(linear(other)));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn colours_are_told_apart_by_everybody() {
        for theme in [|ink: &Ink| ink.0, |ink: &Ink| ink.1] {
            for (i, one) in DATA.iter().enumerate() {
                assert!(contrast(theme(one), theme(&GROUND)) >= 3.0, "{one:?}");
                for (other, sight) in DATA[..i].iter().flat_map(|other| SIGHTS.iter().map(move |sight| (other, sight)))
                {
                    let [a, b] = [one, other].map(|ink| lab(seen(linear(theme(ink)), sight)));
                    let distance = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
                    assert!(distance > 20.0, "{one:?} {other:?}: {distance}");
                }
            }
        }
    }

    #[test]
    fn text_is_read_on_both_grounds() {
        for ink in [TEXT, MUTED] {
            assert!(contrast(ink.0, GROUND.0) > 4.5 && contrast(ink.1, GROUND.1) > 4.5, "{ink:?}");
        }
    }

    #[test]
    fn every_line_has_a_style_of_its_own() {
        let inks: std::collections::BTreeSet<String> = (0..18).map(|n| hex(ink(n))).collect();
        assert_eq!(inks.len(), 18);
        let sheet = style_sheet();
        for light in &inks {
            assert_eq!(sheet.matches(&format!("[stroke=\"{light}\"]")).count(), 2, "its dashes, its dark counterpart");
        }
        assert_eq!(ink(18), ink(0), "and then again");
    }
}
