//! The names in a path and the parameters in a query, held to what an endpoint takes: pure.

use crate::admin::endpoints::{Endpoint, Kind, Parameter};
use crate::admin::route::Refusal;
use crate::door::Filter;

/// What was asked of an endpoint; each parameter is one it takes, with a value of its kind.
#[derive(Debug, Default)]
pub(super) struct Asked {
    names: Vec<String>,
    query: Vec<(&'static str, String)>,
}

impl Asked {
    /// Reads what stands in path and query.
    pub(super) fn read(
        endpoint: &Endpoint,
        names: &[&str],
        query: Option<&str>,
    ) -> Result<Self, Refusal> {
        let names = names.iter().map(|name| decoded(name)).collect::<Result<_, _>>()?;
        let mut asked = Self { names, query: Vec::new() };
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded(name)?;
            let Some(parameter) = endpoint.query.iter().find(|it| it.name == name) else {
                let known = endpoint.query.iter().map(|it| it.name).collect();
                return Err(Refusal::UnknownParameter { name, known });
            };
            asked.take(parameter, decoded(value)?)?;
        }
        let missing = |it: &&Parameter| {
            matches!(it.kind, Kind::Many(_))
                && !asked.query.iter().any(|(name, _)| *name == it.name)
        };
        match endpoint.query.iter().find(missing) {
            Some(Parameter { name, .. }) => Err(Refusal::Missing(name)),
            None => Ok(asked),
        }
    }

    fn take(&mut self, parameter: &Parameter, value: String) -> Result<(), Refusal> {
        let Parameter { name, kind, .. } = *parameter;
        let before = self.query.iter().filter(|(other, _)| *other == name).count();
        if before >= if let Kind::Many(most) = kind { most } else { 1 } {
            return Err(Refusal::Repeated(name));
        }
        let fits = match kind {
            Kind::Text | Kind::Many(_) => true,
            Kind::Flag => ["true", "false"].contains(&&*value),
            Kind::Number { least, most, .. } => {
                value.parse().is_ok_and(|number| (least..=most).contains(&number))
            }
            Kind::OneOf(words) => words.contains(&&*value),
        };
        if !fits {
            return Err(Refusal::Value { name, kind: kind.to_string() });
        }
        self.query.push((name, value));
        Ok(())
    }

    /// The name in the path.
    pub(super) fn name(&self) -> Result<String, Refusal> {
        self.names.first().cloned().ok_or(Refusal::Name)
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.query.iter().find(|(other, _)| *other == name).map(|(_, value)| value.clone())
    }

    pub(super) fn all(&self, name: &str) -> Vec<String> {
        let same = self.query.iter().filter(|(other, _)| *other == name);
        same.map(|(_, value)| value.clone()).collect()
    }

    /// The number given, or the parameter's default.
    pub(super) fn number(&self, parameter: Parameter) -> usize {
        let default = match parameter.kind {
            Kind::Number { default, .. } => default,
            Kind::Text | Kind::Flag | Kind::OneOf(_) | Kind::Many(_) => 0,
        };
        self.text(parameter.name).and_then(|text| text.parse().ok()).unwrap_or(default)
    }

    /// Which users are meant.
    pub(super) fn filter(&self) -> Filter {
        Filter {
            server: self.text("server"),
            home: self.text("home"),
            away: self.text("away").map(|away| away == "true"),
            standing: self.text("state"),
            why: self.text("why"),
            prefix: self.text("prefix"),
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text | Self::Many(_) => f.write_str("text"),
            Self::Flag => f.write_str("true or false"),
            Self::Number { least, most, .. } => {
                write!(f, "a whole number from {least} to {most}")
            }
            Self::OneOf(words) => write!(f, "one of {}", words.join(", ")),
        }
    }
}

/// Undoes %-encoding, once; a plus sign is a plus sign (RFC 3986 §2.1): phone numbers begin with it.
fn decoded(text: &str) -> Result<String, Refusal> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet != b'%' {
            octets.push(octet);
            continue;
        }
        let mut digit = || rest.next().and_then(|it| char::from(it).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(Refusal::Name) };
        octets.push(u8::try_from(high * 16 + low).map_err(|_| Refusal::Name)?);
    }
    String::from_utf8(octets).map_err(|_| Refusal::Name)
}

#[cfg(test)]
mod tests {
    use hyper::Method;
    use proptest::prelude::*;

    use crate::admin::endpoints::find;

    use super::*;

    proptest! {
        #[test]
        fn whatever_is_asked_is_read_or_refused(
            path in "(/v1/(users|servers|explain)/)?[ -~]{0,40}",
            query in proptest::option::of("((limit|after|server|prefix|kill|%[0-9a-f]{0,2})=)?[ -~]{0,40}"),
        ) {
            for method in [Method::GET, Method::POST] {
                if let Ok((endpoint, names)) = find(&method, &path) {
                    let asked = Asked::read(endpoint, &names, query.as_deref());
                    prop_assert!(asked.map_or(true, |it| it.names.len() == names.len()));
                }
            }
        }

        #[test]
        fn a_name_comes_out_as_it_was_escaped(name in "\\PC{1,20}") {
            let escaped: String = name.bytes().map(|octet| format!("%{octet:02x}")).collect();
            prop_assert_eq!(decoded(&escaped), Ok(name.clone()));
            let path = format!("/v1/users/{escaped}");
            let (endpoint, names) = find(&Method::GET, &path).unwrap();
            prop_assert_eq!(Asked::read(endpoint, &names, None).unwrap().name(), Ok(name));
        }
    }
}
