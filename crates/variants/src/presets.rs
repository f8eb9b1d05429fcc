//! The registry of presets, which only recombine existing parts.

use crate::preset::Preset;

macro_rules! presets {
    ($($file:ident),+ $(,)?) => {
        $(pub mod $file;)+
        /// The presets of this registry.
        pub const PRESETS: &[Preset] = &[$($file::PRESET),+];
    };
}

// Alphabetical.
presets! {
    adalora,
    alora,
    asymmetric_lora,
    autolora,
    bitfit,
    boft,
    bone,
    c3a,
    cola,
    corda,
    delora,
    delta_lora,
    dora,
    dora_dynamic,
    dvora,
    dylora,
    eva,
    flora_core,
    fourierft,
    full,
    gralora,
    head_only,
    hira,
    hra,
    hydra_lora,
    ia3,
    inc_lora,
    init_b,
    lisa,
    ln_tuning,
    loha,
    lokr,
    lora,
    lora_fa,
    lora_fa_preconditioned,
    lora_ga,
    lora_orthogonal,
    lora_plus,
    lora_xs,
    melora,
    milora,
    miss,
    molora,
    mov,
    nola,
    nz_lora,
    o_lora,
    oft,
    olora,
    pissa,
    randlora,
    relora,
    rslora,
    shira,
    sora,
    svdiff,
    tied_lora,
    tri_lora,
    vb_lora,
    vera,
    xgblora,
}
