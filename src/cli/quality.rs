//! Presets: one word for several options of `engine infer`.

use clap::ValueEnum;

/// How much time a depth map may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Quality {
    /// A first look.
    Fast,
    /// The defaults.
    Normal,
    /// More depths between near and far.
    High,
    /// More still, and more views to check each against.
    Best,
}

impl Quality {
    /// The preset of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::from_str(name, false).ok()
    }

    /// What it stands for, for a note.
    pub fn told(self) -> String {
        let name = self.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned());
        let options: Vec<String> = self.options().iter().map(|(name, value)| format!("--{name} {value}")).collect();
        match options.is_empty() {
            true => format!("--quality {name}: the defaults"),
            false => format!("--quality {name}: {}, where they are not given otherwise", options.join(" ")),
        }
    }

    /// The options that it stands for, as on the command line. Those that are given otherwise go before them.
    pub fn options(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Fast => &[("resolution", "half"), ("planes", "48"), ("views", "3"), ("levels", "2")],
            Self::Normal => &[],
            Self::High => &[("planes", "128")],
            Self::Best => &[("planes", "192"), ("check-sources", "20")],
        }
    }
}
