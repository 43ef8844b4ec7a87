//! `WWW-Authenticate` (RFC 9110, 11.6.1): how a registry wants to be asked.

/// One challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// The scheme in lower case.
    pub(crate) scheme: String,
    /// Names in lower case, with values.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// A parameter's value.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// Reads all challenges of one header. What does not follow the grammar ends the reading; what came before stays.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let Some((word, after)) = token(rest) else { return challenges };
        match parameter(after) {
            Some((value, after)) => {
                // A name and a value belong to the challenge before it.
                let Some(challenge) = challenges.last_mut() else { return challenges };
                challenge.parameters.push((word.to_ascii_lowercase(), value));
                rest = after;
            }
            // A value that cannot be read.
            None if after.trim_start_matches([' ', '\t']).starts_with('=') => return challenges,
            None => {
                challenges.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
                rest = after;
            }
        }
    }
}

fn token(text: &str) -> Option<(&str, &str)> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    if end == 0 { None } else { text.split_at_checked(end) }
}

/// What follows a parameter's name: `=`, then a token or a quoted string.
fn parameter(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start_matches([' ', '\t']).strip_prefix('=')?.trim_start_matches([' ', '\t']);
    let Some(quoted) = text.strip_prefix('"') else {
        // Some servers leave the quotes away, even around a URL.
        let end = text.find([',', ' ', '\t', '"']).unwrap_or(text.len());
        return text.split_at_checked(end).map(|(value, rest)| (value.to_string(), rest));
    };
    let mut value = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' => value.push(chars.next()?),
            c => value.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(header: &str) -> Vec<String> {
        parse(header)
            .iter()
            .map(|c| {
                let list: Vec<_> = c.parameters.iter().map(|(n, v)| format!("{n}={v}")).collect();
                format!("{} {}", c.scheme, list.join(";"))
            })
            .collect()
    }

    #[test]
    fn challenges_are_read_as_the_grammar_says() {
        for (header, expected) in [
            (
                r#"Bearer realm="https://a.example/token?x=1,2",service="r.example",scope="repository:a/b:pull,push""#,
                vec!["bearer realm=https://a.example/token?x=1,2;service=r.example;scope=repository:a/b:pull,push"],
            ),
            (r#"Basic realm="say \"hi\", you""#, vec![r#"basic realm=say "hi", you"#]),
            (
                r#"Negotiate, BASIC Realm = "x" , Bearer realm=https://a/t"#,
                vec!["negotiate ", "basic realm=x", "bearer realm=https://a/t"],
            ),
            (r#"Bearer realm="never ends"#, vec!["bearer "]),
            ("", vec![]),
            ("\u{7f}", vec![]),
            (r#"="x""#, vec![]),
        ] {
            assert_eq!(show(header), expected, "{header}");
        }
    }
}
