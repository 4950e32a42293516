//! The options `MODE`, `HAND_OVER` and `STATE`. `guests/README.md` says what each value does.

use std::str::FromStr;

macro_rules! option {
    (
        $(#[$about:meta])*
        $option:ident = $name:literal, a $what:literal {
            $($(#[$default:meta])? $value:ident = $text:literal,)*
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $option {
            $($(#[$default])? $value,)*
        }

        impl FromStr for $option {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(Self::$value),)*
                    _ => Err(["one of", $($text),*].join(" ")),
                }
            }
        }

        impl $option {
            /// The error for a contract that does not have this value.
            pub fn refusal(self) -> String {
                let text = match self {
                    $(Self::$value => $text,)*
                };
                format!(concat!($name, "={}: expected a ", $what, " of this contract"), text)
            }
        }
    };
}

option! {
    /// The option `MODE`.
    Mode = "MODE", a "mode" {
        #[default]
        Trap = "trap",
        TrapOpen = "trap-open",
        Spin = "spin",
        Hog = "hog",
        Err = "err",
        Early = "early",
        NeverRead = "never-read",
        Block = "block",
        Flood = "flood",
        Tick = "tick",
        Outbound = "outbound",
        Lookup = "lookup",
        Env = "env",
        Dir = "dir",
        Options = "options",
        Describe = "describe",
        HalfClose = "half-close",
        ShutdownSend = "shutdown-send",
        Leak = "leak",
        Print = "print",
        Misuse = "misuse",
        Random = "random",
        Eager = "eager",
        Count = "count",
        Slow = "slow",
        Crowd = "crowd",
    }
}

option! {
    /// The option `HAND_OVER`.
    Manner = "HAND_OVER", a "manner" {
        #[default]
        Normal = "normal",
        Refuse = "refuse",
        TrapAccept = "trap-accept",
        SpinAccept = "spin-accept",
        WaitAccept = "wait-accept",
        TrapHandOver = "trap-hand-over",
        TrapSecond = "trap-second",
        TrapHundredth = "trap-hundredth",
        None = "none",
        Ignore = "ignore",
        Large = "large",
        Hold = "hold",
        Garbage = "garbage",
        Unknown = "unknown",
    }
}

option! {
    /// The option `STATE`.
    Keeping = "STATE", a "way to keep a state" {
        #[default]
        Nothing = "nothing",
        Keep = "keep",
        Much = "much",
        Foreign = "foreign",
        Refuse = "refuse",
        TrapSave = "trap-save",
        SpinSave = "spin-save",
        WaitSave = "wait-save",
        TrapRestore = "trap-restore",
        SpinRestore = "spin-restore",
    }
}
