//! Web addresses as keys: one spelling for each, the host that a browser would ask, its owner.

use psl::{List, Psl, Type};
use url::{Host, Url};

/// One spelling of an address, or `None` for what is no web address.
///
/// As browsers do (WHATWG URL Standard): blanks at the ends, tabs and line ends go, scheme and host
/// are in lower case, the host in ASCII (IDN as Punycode, full-width dots as dots), the default port
/// goes, `\` is `/`, and dots in the path are resolved. Beyond that user info, the dot at the end of
/// the host, and the fragment go, except one that begins with `!`, which names a page of its own.
#[must_use]
pub fn normalise_url(text: &str) -> Option<String> {
    let mut url = parse(text)?;
    if url.host_str().is_some_and(|host| host.ends_with('.')) {
        let host = url.host_str()?.trim_end_matches('.').to_owned();
        url.set_host(Some(&host)).ok()?;
    }
    // These fail only for schemes that `parse` does not let through.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    if url.fragment().is_some_and(|fragment| !fragment.starts_with('!')) {
        url.set_fragment(None);
    }
    let name = url.host_str()?.to_owned();
    Some(String::from(url).replacen(&name, &unescaped(&name), 1))
}

/// The host of an address, or of a bare host name, in lower case and ASCII without a dot at its end.
#[must_use]
pub fn host(text: &str) -> Option<String> {
    let url = parse(text).or_else(|| {
        let bare = text.trim();
        let authority = bare.split(['/', '\\', '?', '#']).next()?;
        let (name, port) = authority.split_once(':').unwrap_or((authority, ""));
        let named = name.contains(['.', '。', '．', '｡']) && !authority.contains('@');
        let plain = named && port.bytes().all(|byte| byte.is_ascii_digit());
        if plain { parse(&format!("http://{bare}")) } else { None }
    })?;
    let name = url.host_str()?.trim_end_matches('.');
    (!name.is_empty()).then(|| unescaped(name))
}

/// The domain that somebody registered: one label more than a public suffix.
///
/// `None` for IP addresses and for hosts that are a public suffix themselves or have one label only.
/// With `private`, names under which a service rents out names (`blogspot.com`, `github.io`) are
/// suffixes too, so that its customers are told apart. The list is the Public Suffix List as of
/// the version of the crate `psl`.
#[must_use]
pub fn registered_domain(text: &str, private: bool) -> Option<String> {
    let name = host(text)?;
    if matches!(Host::parse(&name), Ok(Host::Ipv4(_) | Host::Ipv6(_))) {
        return None;
    }
    let mut suffix = List.suffix(name.as_bytes())?;
    let mut end = std::str::from_utf8(suffix.as_bytes()).ok()?;
    while !private && suffix.typ() == Some(Type::Private) {
        suffix = List.suffix(end.split_once('.')?.1.as_bytes())?;
        // The suffix lies at the end of the name; cut it from there so that lifetimes agree.
        let length = suffix.as_bytes().len();
        end = &name[name.len() - length..];
    }
    let before = name.strip_suffix(end)?.strip_suffix('.')?;
    let label = before.rsplit('.').next().filter(|label| !label.is_empty())?;
    Some(format!("{label}.{end}"))
}

fn parse(text: &str) -> Option<Url> {
    let text = text.trim();
    let relative;
    let text = match text.starts_with("//") || text.starts_with("\\\\") {
        true => {
            relative = format!("http:{text}");
            &relative
        }
        false => text,
    };
    let parsed = match Url::parse(text) {
        Ok(url) => url,
        Err(_) => Url::parse(&with_escaped_host(text)?).ok()?,
    };
    let web = matches!(parsed.scheme(), "http" | "https" | "ftp");
    (web && parsed.host_str().is_some_and(|host| !host.is_empty())).then_some(parsed)
}

/// Stands for `xn--` while an address is parsed whose host is no valid IDN, such as `www.xn--.ws`: it
/// is served all the same, and must be a key.
const ESCAPED: &str = "xn-0-";

fn unescaped(host: &str) -> String {
    host.replace(ESCAPED, "xn--")
}

fn with_escaped_host(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let start = lower.find("//")? + 2;
    let end = lower[start..].find(['/', '\\', '?', '#']).map_or(lower.len(), |at| start + at);
    let authority = &lower[start..end];
    let changed = authority.replace("xn--", ESCAPED);
    (changed != authority).then(|| format!("{}{changed}{}", &text[..start], &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::{host, normalise_url, registered_domain};

    #[test]
    fn one_spelling() {
        for (found, expected) in [
            ("HTTP://EVIL.Example.COM./", "http://evil.example.com/"),
            ("  http://evil.example.com\t/", "http://evil.example.com/"),
            (
                "http://user:pw@evil.example.com:80/x?b=1&a=2#top",
                "http://evil.example.com/x?b=1&a=2",
            ),
            ("https://a.example:8443", "https://a.example:8443/"),
            ("//evil.example.com/p", "http://evil.example.com/p"),
            ("http://evil.example.com\\@good.org/", "http://evil.example.com/@good.org/"),
            ("http://evil.example.com@good.org/", "http://good.org/"),
            ("http://\u{4e2d}\u{56fd}.cn/", "http://xn--fiqs8s.cn/"),
            ("http://evil\u{3002}example\u{ff0e}com/", "http://evil.example.com/"),
            ("http://a.example/b/../c/%7Ed#!page", "http://a.example/c/%7Ed#!page"),
            ("http://0x7f.1/", "http://127.0.0.1/"),
        ] {
            assert_eq!(normalise_url(found).as_deref(), Some(expected), "{found}");
            assert_eq!(normalise_url(expected).as_deref(), Some(expected), "again: {expected}");
        }
        for other in [
            "",
            "notes/1.md",
            "mailto:a@b.example",
            "http://",
            "http:///",
            "javascript:1",
            "C:\\texts\\a.txt",
            "urn:isbn:1",
            "http://a b/",
        ] {
            assert_eq!(normalise_url(other), None, "{other}");
        }
    }

    #[test]
    fn owners() {
        let owner = |text| registered_domain(text, true);
        assert_eq!(owner("http://a.b.example.co.uk/").as_deref(), Some("example.co.uk"));
        assert_eq!(owner("foo.blogspot.com").as_deref(), Some("foo.blogspot.com"));
        assert_eq!(registered_domain("a.foo.blogspot.com", false).as_deref(), Some("blogspot.com"));
        assert_eq!(owner("http://\u{4e2d}\u{56fd}.cn/"), owner("http://xn--fiqs8s.cn/"));
        assert_eq!(
            owner("http://a.\u{4f8b}\u{5b50}.\u{4e2d}\u{56fd}/").as_deref(),
            Some("xn--fsqu00a.xn--fiqs8s")
        );
        for none in
            ["http://127.0.0.1/", "http://[::1]/", "localhost", "http://co.uk/", "words", ""]
        {
            assert_eq!(owner(none), None, "{none}");
        }
        assert_eq!(owner("http://www.xn--.ws/").as_deref(), Some("xn--.ws"));
        assert_eq!(normalise_url("http://WWW.xn--.ws").as_deref(), Some("http://www.xn--.ws/"));
        assert_eq!(host("Evil.Example.com.").as_deref(), Some("evil.example.com"));
    }
}
