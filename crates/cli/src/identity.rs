//! What this binary is made of.

use std::collections::BTreeMap;

use record::CodeIdentity;

/// The code identity taken by the build script.
pub(crate) fn code() -> CodeIdentity {
    CodeIdentity {
        code_hash: env!("LORA_LAB_CODE_HASH").to_owned(),
        commit: env!("LORA_LAB_COMMIT").to_owned(),
        dirty: env!("LORA_LAB_DIRTY") == "true",
    }
}

/// Versions of the crates that can change a number.
pub(crate) fn versions() -> BTreeMap<String, String> {
    [("lora-lab", env!("CARGO_PKG_VERSION")), ("burn", env!("LORA_LAB_BURN"))]
        .map(|(name, version)| (name.to_owned(), version.to_owned()))
        .into()
}
