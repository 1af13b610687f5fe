//! What people may see of a text that may hold a password.

/// What stands in place of a secret.
pub(super) const HIDDEN: &str = "***";

/// `text` with the passwords of every URL in it hidden.
///
/// It hides too much rather than too little: a password that was not percent-encoded may hold `/`,
/// `?` or `@`, so everything up to the last `@` of the word counts as one.
pub(crate) fn mask(text: &str) -> String {
    text.split_inclusive(char::is_whitespace)
        .map(mask_word)
        .collect()
}

fn mask_word(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else {
        return word.to_owned();
    };
    let rest = match rest.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((name, _)) => format!("{name}:{HIDDEN}@{host}"),
            None => rest.to_owned(),
        },
        None => rest.to_owned(),
    };
    let rest = match rest.split_once('?') {
        Some((place, query)) => {
            let query: Vec<String> = query.split('&').map(mask_parameter).collect();
            format!("{place}?{}", query.join("&"))
        }
        None => rest,
    };
    format!("{scheme}://{rest}")
}

fn mask_parameter(parameter: &str) -> String {
    const SECRET: [&str; 5] = ["password", "passwd", "secret", "token", "key"];
    match parameter.split_once('=') {
        Some((name, _)) if SECRET.iter().any(|s| name.to_lowercase().contains(s)) => {
            format!("{name}={HIDDEN}")
        }
        _ => parameter.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_urls_are_hidden() {
        let cases = [
            ("postgres://u:p@db/x", "postgres://u:***@db/x"),
            ("postgres://u:p/w?@:d@db/x", "postgres://u:***@db/x"),
            ("redis://:p@cache", "redis://:***@cache"),
            (
                "see https://u:p@a and https://v:q@b",
                "see https://u:***@a and https://v:***@b",
            ),
            (
                "postgres://db/x?user=u&password=p",
                "postgres://db/x?user=u&password=***",
            ),
            (
                "s3://b/p?Secret_Access_Key=s&region=r",
                "s3://b/p?Secret_Access_Key=***&region=r",
            ),
        ];
        for (text, shown) in cases {
            assert_eq!(mask(text), shown);
        }
    }

    #[test]
    fn what_holds_no_password_is_shown_as_it_is() {
        for text in [
            "sqlite:rowmill.db",
            "postgres://u@db/x",
            "file:/a b/c",
            "",
            "a@b:c",
        ] {
            assert_eq!(mask(text), text);
        }
    }
}
