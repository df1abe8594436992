//! The macro for enums whose variants have names in metrics, headers, logs and
//! settings. Each variant stands once, beside its name. Never knows an enum.

/// Defines an enum with `ALL`, `name` and `from_name` from one list of variants.
///
/// `ALL` is in the order of the list, so `variant as usize` is an index into it.
macro_rules! named_enum {
    (
        $(#[$about:meta])*
        $vis:vis enum $Enum:ident {
            $($(#[$about_variant:meta])* $Variant:ident = $name:literal,)+
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        $vis enum $Enum {
            $($(#[$about_variant])* $Variant,)+
        }

        #[allow(dead_code, reason = "not every enum is listed, named and read")]
        impl $Enum {
            /// Every variant, in the order of the definition.
            $vis const ALL: [Self; [$($name),+].len()] = [$(Self::$Variant),+];

            /// The name of this variant.
            #[must_use]
            $vis const fn name(self) -> &'static str {
                match self {
                    $(Self::$Variant => $name,)+
                }
            }

            /// The variant with this name, if there is one.
            #[must_use]
            $vis fn from_name(name: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|variant| variant.name() == name)
            }
        }
    };
}

pub(crate) use named_enum;

#[cfg(test)]
mod tests {
    named_enum! {
        enum Unit {
            Second = "s",
            Minute = "min",
        }
    }

    #[test]
    fn each_variant_has_its_index_and_its_name() {
        for (index, unit) in Unit::ALL.into_iter().enumerate() {
            assert_eq!(unit as usize, index);
            assert_eq!(Unit::from_name(unit.name()), Some(unit));
        }
        assert_eq!(Unit::ALL, [Unit::Second, Unit::Minute]);
        assert_eq!(Unit::from_name("h"), None);
    }
}
