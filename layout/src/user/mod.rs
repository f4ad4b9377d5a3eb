//! Files of a user.
/// x
pub mod forward {
    /// x
    #[derive(Default)]
    pub struct Forward {
        /// x
        pub keep: bool,
        /// x
        pub targets: Vec<String>,
    }
    impl Forward {
        /// x
        pub fn parse(_: &[u8]) -> Forward {
            Forward::default()
        }
    }
}
