//! Colour scales that stay readable in grey print and for colour-blind readers.

/// Red, green, blue.
pub(super) type Colour = [u8; 3];

pub(super) const WHITE: Colour = [255, 255, 255];
pub(super) const INK: Colour = [30, 30, 30];
pub(super) const GREY: Colour = [110, 110, 110];
pub(super) const GRID: Colour = [225, 225, 225];
pub(super) const UNDEFINED: Colour = [232, 232, 232];

/// The colours of series, in their order: Okabe and Ito, *Color Universal Design*, 2008, the yellow left out: too faint as a line on white. In its place the wine of P. Tol,
/// *Colour Schemes*, 2021: darker than every red and purple here, so that eight series differ for colour-blind readers too.
pub const SERIES: [[u8; 3]; 8] = [
    [0, 114, 178],
    [213, 94, 0],
    [0, 158, 115],
    [204, 121, 167],
    [230, 159, 0],
    [86, 180, 233],
    [0, 0, 0],
    [136, 34, 85],
];

/// Viridis by N. Smith and S. van der Walt (CC0), as in matplotlib 3: 256 times red, green, blue.
const VIRIDIS: &[u8; 1536] = b"\
    44015444025645045745055946075a46085c460a5d460b5e470d60470e6147106347116447136548146748166848176948186a481a6c481b6d\
    481c6e481d6f481f70482071482173482374482475482576482677482878482979472a7a472c7a472d7b472e7c472f7d46307e46327e46337f\
    463480453581453781453882443983443a83443b84433d84433e85423f854240864241864142874144874045884046883f47883f48893e4989\
    3e4a893e4c8a3d4d8a3d4e8a3c4f8a3c508b3b518b3b528b3a538b3a548c39558c39568c38588c38598c375a8c375b8d365c8d365d8d355e8d\
    355f8d34608d34618d33628d33638d32648e32658e31668e31678e31688e30698e306a8e2f6b8e2f6c8e2e6d8e2e6e8e2e6f8e2d708e2d718e\
    2c718e2c728e2c738e2b748e2b758e2a768e2a778e2a788e29798e297a8e297b8e287c8e287d8e277e8e277f8e27808e26818e26828e26828e\
    25838e25848e25858e24868e24878e23888e23898e238a8d228b8d228c8d228d8d218e8d218f8d21908d21918c20928c20928c20938c1f948c\
    1f958b1f968b1f978b1f988b1f998a1f9a8a1e9b8a1e9c891e9d891f9e891f9f881fa0881fa1881fa1871fa28720a38620a48621a58521a685\
    22a78522a88423a98324aa8325ab8225ac8226ad8127ad8128ae8029af7f2ab07f2cb17e2db27d2eb37c2fb47c31b57b32b67a34b67935b779\
    37b87838b9773aba763bbb753dbc743fbc7340bd7242be7144bf7046c06f48c16e4ac16d4cc26c4ec36b50c46a52c56954c56856c66758c765\
    5ac8645cc8635ec96260ca6063cb5f65cb5e67cc5c69cd5b6ccd5a6ece5870cf5773d05675d05477d1537ad1517cd2507fd34e81d34d84d44b\
    86d54989d5488bd6468ed64590d74393d74195d84098d83e9bd93c9dd93ba0da39a2da37a5db36a8db34aadc32addc30b0dd2fb2dd2db5de2b\
    b8de29bade28bddf26c0df25c2df23c5e021c8e020cae11fcde11dd0e11cd2e21bd5e21ad8e219dae319dde318dfe318e2e418e5e419e7e419\
    eae51aece51befe51cf1e51df4e61ef6e620f8e621fbe723fde725";

/// The colour at `place` of `[0, 1]`, clamped: the nearest of 256.
pub fn viridis(place: f64) -> [u8; 3] {
    let index = (place.clamp(0.0, 1.0) * 255.0).round() as usize;
    let channel = |offset: usize| hex(VIRIDIS[6 * index + offset]) * 16 + hex(VIRIDIS[6 * index + offset + 1]);
    [channel(0), channel(2), channel(4)]
}

/// All 256 colours, from dark to bright.
pub fn viridis_table() -> Vec<[u8; 3]> {
    (0..=255).map(|index| viridis(f64::from(index) / 255.0)).collect()
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => unreachable!("the table holds hexadecimal digits only"),
    }
}
