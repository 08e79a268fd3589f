//! What needs which product version: one table, and nobody else compares versions.

use super::Version;

/// Something that is done from a product version on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// A server takes other servers' users.
    Backup,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// What is done.
    pub gate: Gate,
    /// What documents call it.
    pub name: &'static str,
    /// The first version with which it is done.
    pub minimum: Version,
    /// The rule it comes from.
    pub source: &'static str,
}

impl Gate {
    /// Every gate there is.
    pub const TABLE: &'static [Requirement] = &[Requirement {
        gate: Self::Backup,
        name: "backup",
        minimum: Version::FIRST_WITH_DISTRIBUTION,
        source: "H7",
    }];

    /// Whether this version is enough; one that is not known never is.
    #[must_use]
    pub fn admits(self, version: Option<Version>) -> bool {
        let row = Self::TABLE.iter().find(|row| row.gate == self);
        row.zip(version).is_some_and(|(row, version)| version >= row.minimum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_of_a_known_version_that_is_new_enough() {
        let admits = |text: &str| Gate::Backup.admits(text.parse().ok());
        assert!(admits("2603.0") && admits("2603.1") && admits("2604") && admits("10000.0"));
        assert!(!admits("2602.99") && !admits("2510.12") && !admits("0"));
        assert!(!admits("new") && !admits(""));
    }

    #[test]
    fn the_document_has_every_row_and_no_other() {
        let text = include_str!("../../ARCHITECTURE.md");
        let (_, section) = text.split_once("\n| gate | from | source |").unwrap();
        let (section, _) = section.split_once("\n\n").unwrap();
        let written: Vec<Vec<&str>> = section
            .lines()
            .filter(|line| line.starts_with("| "))
            .map(|line| line.trim_matches('|').split('|').map(str::trim).take(3).collect())
            .collect();
        let coded: Vec<Vec<String>> = Gate::TABLE
            .iter()
            .map(|row| vec![row.name.into(), row.minimum.to_string(), row.source.into()])
            .collect();
        assert_eq!(written, coded);
    }
}
