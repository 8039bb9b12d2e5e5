//! Labels that are words of ours: printed in snake_case as written here, not as Rust names its variants.

/// Makes an enum whose values are label values, each with its word.
#[macro_export]
macro_rules! label_words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $variant),+ }

        impl $name {
            /// The word that stands in metrics, logs and JSON.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }

            /// All of them.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];
        }

        impl prometheus_client::encoding::EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut prometheus_client::encoding::LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
                std::fmt::Write::write_str(encoder, self.word())
            }
        }
    };
}
