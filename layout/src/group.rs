//! x
/// x
pub fn members(_: &[u8], _: crate::text::CodePage) -> Vec<String> {
    Vec::new()
}
