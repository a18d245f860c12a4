//! Stable codes: what reports, logs and metrics call each outcome, reason and kind of event.

/// Declares an enum whose variants have codes of their own. Dashboards and alarms are built on the
/// codes, so renaming a variant must not change one.
macro_rules! codes {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident = $code:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every variant, in the order of the documents' table.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The code in reports, logs and metrics.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.code())
            }
        }
    };
}

pub(crate) use codes;
