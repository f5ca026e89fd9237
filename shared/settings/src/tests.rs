use super::*;

const SECURE: [(&str, &str); 3] =
    [("SECURITY__BEARER_TOKENS", "hunter2"), ("PROXY__PROXY_HOST", "127.0.0.1"), ("PROXY__PROXY_PORT", "1080")];

fn with(extra: &[(&str, &str)]) -> Result<Settings, Problems> {
    Settings::from_pairs(SECURE.into_iter().chain(extra.iter().copied()))
}

fn problem(extra: &[(&str, &str)]) -> String {
    with(extra).unwrap_err().to_string()
}

#[test]
fn missing_settings_fail_closed_and_name_what_to_set() {
    let problems = Settings::from_pairs::<&str, &str>([]).unwrap_err();
    assert_eq!(problems.0.len(), 2, "{problems}");
    assert!(problems.to_string().contains("set SECURITY__BEARER_TOKENS"), "{problems}");
    assert!(problems.to_string().contains("set PROXY__PROXY_HOST and PROXY__PROXY_PORT"), "{problems}");
}

#[test]
fn a_role_needs_only_its_own_secrets() {
    let names = |part| {
        let (settings, _) = Settings::read(Source::from_pairs::<&str, &str>([]).unwrap(), part);
        settings.err().unwrap_or_default().0.iter().map(|problem| problem[..8].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(Role::AllInOne), ["SECURITY", "PROXY__P"]);
    assert_eq!(names(Role::Api), ["SECURITY"]);
    assert_eq!(names(Role::Fetcher), ["PROXY__P"]);
    assert!(names(Role::Worker).is_empty());
}

#[test]
fn only_a_process_that_sends_messages_needs_the_url_of_the_notification_service() {
    let refused = |role, set, unset: &str| {
        let pairs = [set, ("SECURITY__BEARER_TOKENS", "alice:a-long-enough-token")];
        let (settings, _) = Settings::read(Source::from_pairs(pairs).unwrap(), role);
        settings.err().unwrap_or_default().0.iter().any(|problem| problem.starts_with(unset))
    };
    let no_url = |role| refused(role, ("NOTIFY__SERVICE", "ntfy"), "NOTIFY__URL: must be set");
    assert!(no_url(Role::AllInOne) && no_url(Role::Fetcher));
    assert!(!no_url(Role::Api) && !no_url(Role::Worker));
    let no_service = |role| refused(role, ("NOTIFY__URL", "https://ntfy.sh/topic"), "NOTIFY__SERVICE: must be set");
    assert!(no_service(Role::AllInOne));
    assert!(!no_service(Role::Fetcher), "a secret on AWS may have a URL that is not used");
}

#[test]
fn the_development_profile_needs_nothing_and_stays_on_loopback() {
    let settings = Settings::from_pairs([("PROFILE", "development")]).unwrap();
    assert!(!settings.security.auth_enabled && !settings.proxy.proxy_enabled);
    assert!(settings.server.host.is_loopback());

    let dev = |name: &str, value: &str| Settings::from_pairs([("PROFILE", "development"), (name, value)]);
    assert!(dev("HOST", "192.0.2.1").unwrap_err().to_string().contains("loopback addresses only"));
    assert!(dev("SEEDER__LISTEN", "192.0.2.1:6881").unwrap_err().to_string().contains("loopback addresses only"));
    assert!(dev("SECURITY__AUTH_ENABLED", "true").is_err(), "an explicit setting applies in every profile");
}

#[test]
fn all_problems_are_reported_at_once_with_name_value_and_allowed_values() {
    let problems = problem(&[
        ("FETCHER__READ_TIMEOUT", "soon"),
        ("FETCHER__CONNECT_TIMEOUT", "301"),
        ("PROXY__PROXY_TYPE", "socks4"),
        ("TORRENT__PIECE_SIZE", "20000"),
        ("FETCHER__ALLOW_NETWORKS", "10.0.0.0/8,nonsense"),
        ("FETCHER__MAX_SIZ", "1"),
    ]);
    for part in [
        "FETCHER__READ_TIMEOUT: 'soon' is not a whole number; allowed: a whole number from 1 to 600",
        "FETCHER__CONNECT_TIMEOUT: 301 is out of range",
        "PROXY__PROXY_TYPE: 'socks4' is not one of the allowed words; allowed: socks5 or http or https",
        "TORRENT__PIECE_SIZE: 20000 is not a power of two in this range",
        "FETCHER__ALLOW_NETWORKS: 'nonsense' is not a network",
        "FETCHER__MAX_SIZ: is not a setting; allowed: FETCHER__ALLOWED_HOSTS",
    ] {
        assert!(problems.contains(part), "{part}\nnot in\n{problems}");
    }
}

#[test]
fn contradictions_are_refused() {
    for (pairs, part) in [
        (&[("CACHE__DEFAULT_TTL", "100"), ("CACHE__MAX_TTL", "99")][..], "greater than CACHE__MAX_TTL"),
        (&[("HOST", "0.0.0.0")], "set PUBLIC_URL"),
        (&[("SEEDER__LISTEN", "[::]:6881")], "set SEEDER__PUBLIC_ADDRESS"),
        (&[("SEEDER__PROXY", "http://h:1")], "SEEDER__PROXY: is no SOCKS5 proxy"),
        (
            &[("SEEDER__PROXY", "socks5://h"), ("SEEDER__PUBLIC_ADDRESS", "192.0.2.7:1")],
            "must be empty with SEEDER__PROXY",
        ),
        (&[("SEEDER__PROXY", "socks5://h"), ("SEEDER__CONNECT_TO_PEERS", "false")], "must be true with SEEDER__PROXY"),
        (&[("SEEDER__INTERFACE", "tun0")], "is an address, but SEEDER__INTERFACE decides"),
        (&[("SEEDER__INTERFACE", "tun0:1")], "SEEDER__INTERFACE: 'tun0:1' is not the name of an interface"),
        (&[("SEEDER__CACHE_DISK", "1000000")], "SEEDER__CACHE_DISK: is too small"),
        (&[("SEEDER__SESSIONS", "2"), ("SEEDER__PORT_FILE", "/f")], "SEEDER__PORT_FILE: names one port"),
        (&[("SEEDER__SESSIONS", "2"), ("SEEDER__LISTEN", "127.0.0.1:65535")], "there is none after 65535"),
        (
            &[("SEEDER__SESSIONS", "2"), ("SEEDER__LISTEN", "127.0.0.1:6881,127.0.0.1:6882")],
            "SEEDER__LISTEN: two addresses have ports in common",
        ),
        (&[("PROXY__PROXY_PASSWORD", "geheim")], "without a user name"),
        (&[("TRACKER__SECRET", "geheim")], "is too short"),
        (&[("SECURITY__HMAC_KEYS", "a:geheim,a:geheim2")], "has the same id twice"),
        (&[("SECURITY__BEARER_TOKENS", "a:geheim,b:geheim")], "has the same token twice"),
        (&[("SECURITY__TOKEN_HEADER", "X Y")], "is not a header that can hold the token"),
        (&[("SECURITY__TOKEN_HEADER", "x-signature")], "is not a header that can hold the token"),
        (&[("PROXY__PROXY_TYPE", "http"), ("PROXY__RESOLVE", "local")], "local works with SOCKS5 proxies only"),
        (&[("PROXY__URLS", "socks5://u:geheim@h:1")], "cannot be combined with PROXY__PROXY_HOST"),
        (&[("PROXY__ISOLATE", "true"), ("PROXY__PROXY_USERNAME", "u")], "each request sends a separate one"),
        (&[("PROXY__ISOLATE", "true"), ("PROXY__PROXY_TYPE", "http")], "each request sends a separate one"),
        (&[("DATABASE__DATABASE_URL", "mysql://u:geheim@h/d")], "unsupported database"),
    ] {
        let problems = problem(pairs);
        assert!(problems.contains(part), "{part} not in {problems}");
        assert!(!problems.contains("geheim"), "{problems}");
    }
}

#[test]
fn proxies_are_read_from_urls_and_shown_without_their_secrets() {
    let read = |urls: &str| {
        let pairs = [("PROFILE", "development"), ("PROXY__PROXY_ENABLED", "true"), ("PROXY__URLS", urls)];
        Settings::from_pairs(pairs).map(|settings| settings.proxy.addresses())
    };
    let proxies = read("socks5://me:p%40ss%2Cw@a.example:9050, https://[2001:db8::1]/,socks5h://b.example").unwrap();
    let places: Vec<_> = proxies.iter().map(|proxy| (proxy.kind, proxy.host.as_str(), proxy.port)).collect();
    let expected = [
        (ProxyType::Socks5, "a.example", 9050),
        (ProxyType::Https, "2001:db8::1", 443),
        (ProxyType::Socks5, "b.example", 1080),
    ];
    assert_eq!(places, expected);
    let (user, password) = proxies[0].credentials.as_ref().unwrap();
    assert_eq!((user.as_str(), password.expose_secret()), ("me", "p@ss,w"));
    assert!(!format!("{proxies:?}").contains("p@ss"));
    for (urls, part) in [
        ("socks4://geheim@h:1", "has the scheme socks4"),
        ("http://h:1/path", "has more than"),
        ("geheim:1", "has the scheme geheim"),
        ("socks5://", "has no host"),
    ] {
        let problems = read(urls).unwrap_err().to_string();
        assert!(problems.contains(part) && !problems.contains("geheim@"), "{problems}");
    }
    let off = [("PROFILE", "development"), ("PROXY__URLS", "socks5://h:1")];
    let settings = Settings::from_pairs(off).unwrap();
    assert!(settings.proxy.addresses().is_empty());
    assert!(
        settings.warnings.iter().any(|warning| warning.contains("PROXY__PROXY_ENABLED")),
        "{:?}",
        settings.warnings
    );
}

#[test]
fn lists_have_two_notations_and_an_empty_value_is_unset() {
    for text in ["text/html, image/*", r#"["text/html","image/*"]"#] {
        assert_eq!(
            with(&[("FETCHER__MIME_WHITELIST", text)]).unwrap().fetcher.mime_whitelist,
            ["text/html", "image/*"]
        );
    }
    assert_eq!(with(&[("FETCHER__READ_TIMEOUT", "")]).unwrap().fetcher.read_timeout.get(), 30);
}

#[test]
fn variables_of_other_programs_are_ignored() {
    with(&[("PATH", "/bin"), ("PROXY_HOST", "x"), ("OTHER__NAME", "y")]).unwrap();
}

#[test]
fn a_webseed_needs_https_while_encryption_is_forced() {
    let (http, https) = ("http://h/".parse().unwrap(), "https://h/".parse().unwrap());
    for (variables, over_http, over_https) in [
        (&[][..], false, true),
        (&[("TORRENT__ENCRYPTION", "preferred")], true, true),
        (&[("TORRENT__WEBSEED", "true")], true, true),
        (&[("TORRENT__WEBSEED", "false")], false, false),
    ] {
        let torrent = with(variables).unwrap().torrent;
        let found = (torrent.webseed_base(Some(&http)).is_some(), torrent.webseed_base(Some(&https)).is_some());
        assert_eq!(found, (over_http, over_https), "{variables:?}");
    }
    let torrent = with(&[("TORRENT__WEBSEED_URL", "https://cdn.example.org/pt/")]).unwrap().torrent;
    assert_eq!(torrent.webseed_base(Some(&http)).map(url::Url::as_str), Some("https://cdn.example.org/pt/"));
}

#[test]
fn all_default_paths_follow_the_base_path() {
    let settings = with(&[
        ("STORAGE__BASE_PATH", "/srv/pt"),
        ("DATABASE__DATABASE_URL", "sqlite+aiosqlite:///./data/proxytorrent.db"),
    ])
    .unwrap();
    assert_eq!(settings.storage.contents().to_str(), Some("/srv/pt/content"));
    assert_eq!(settings.storage.torrents().to_str(), Some("/srv/pt/torrents"));
    let sqlite = |settings: &Settings| match settings.database.location(&settings.storage) {
        Ok(DatabaseLocation::Sqlite(path)) => path,
        other => panic!("{other:?}"),
    };
    assert_eq!(sqlite(&settings).to_str(), Some("/srv/pt/proxytorrent.db"));
    let elsewhere = with(&[("DATABASE__DATABASE_URL", "sqlite:////var/lib/pt.db")]).unwrap();
    assert_eq!(sqlite(&elsewhere).to_str(), Some("/var/lib/pt.db"));
}

#[test]
fn the_url_of_a_postgresql_database_may_name_a_driver_and_is_a_secret() {
    for url in ["postgres://u:hidden@db/pt", "postgresql+asyncpg://u:hidden@db/pt"] {
        let settings = with(&[("DATABASE__DATABASE_URL", url)]).unwrap();
        let location = settings.database.location(&settings.storage).unwrap();
        assert!(!format!("{location:?}").contains("hidden"));
        let DatabaseLocation::Postgres(url) = location else { panic!("{location:?}") };
        assert_eq!(url.expose_secret(), "postgresql://u:hidden@db/pt");
    }
    let other = with(&[("DATABASE__DATABASE_URL", "mysql://u:hidden@db/pt")]).unwrap_err().to_string();
    assert!(other.contains("DATABASE__DATABASE_URL") && other.contains("postgresql://"), "{other}");
    assert!(!other.contains("hidden"), "{other}");
}

#[test]
fn a_token_that_can_be_guessed_warns() {
    let warns = |token| {
        let settings = with(&[("SECURITY__BEARER_TOKENS", token)]).unwrap();
        settings.warnings.iter().any(|warning| warning.contains("SECURITY__BEARER_TOKENS"))
    };
    assert!(warns("alice:short-token") && !warns("alice:0123456789abcdef"));
}

#[test]
fn settings_without_effect_warn() {
    let settings =
        with(&[("CACHE__REDIS_URL", "redis://:geheim@localhost"), ("MONITORING__MASK_SENSITIVE", "true")]).unwrap();
    let about = |setting: &str| settings.warnings.iter().any(|warning| warning.contains(setting));
    assert!(about("CACHE__REDIS_URL") && about("MONITORING__MASK_SENSITIVE"), "{:?}", settings.warnings);
    assert!(!settings.warnings.iter().any(|w| w.contains("geheim")));
}

#[test]
fn secrets_are_never_shown() {
    let pairs =
        [("PROXY__PROXY_USERNAME", "u"), ("PROXY__PROXY_PASSWORD", "geheim"), ("SECURITY__HMAC_SECRET", "geheim")];
    let settings = with(&pairs).unwrap();
    assert!(!format!("{settings:?}").contains("geheim"));
    assert!(!format!("{settings:?}").contains("hunter2"));
    let source = Source::from_pairs(pairs).unwrap();
    let (_, descriptions) = Settings::read(source, Role::AllInOne);
    let password = descriptions.iter().find(|d| d.name == "PROXY__PROXY_PASSWORD").unwrap();
    assert_eq!(password.value.as_deref(), Some("********"));
    assert!(descriptions.iter().all(|d| !d.documentation.is_empty()), "every setting is documented");
}

#[test]
fn an_invalid_token_or_key_is_refused_without_showing_it() {
    let digest = "ab".repeat(32);
    for good in ["token", "alice:token", &format!("alice:sha256:{digest}"), "alice:to:ken", "token,bob:token-b"] {
        assert!(with(&[("SECURITY__BEARER_TOKENS", good)]).is_ok(), "{good}");
    }
    for bad in [
        "alice:",
        "alice:huh",
        "huh",
        "alice:$(hush-hush)",
        "`hush-hush`",
        ":hush",
        "a b:hush",
        "hmac:hush",
        &format!("sha256:{digest}"),
        "alice:sha256:hush",
    ] {
        let problem = problem(&[("SECURITY__BEARER_TOKENS", bad)]);
        assert!(problem.contains("SECURITY__BEARER_TOKENS"), "{problem}");
        assert!(!problem.contains("hush") && !problem.contains(&digest), "{problem}");
    }
    assert!(problem(&[("SECURITY__HMAC_KEYS", "hmac:hush")]).contains("SECURITY__HMAC_SECRET"));
}

#[test]
fn proxies_are_shown_without_their_credentials() {
    let pairs = [("PROXY__URLS", "socks5://user:geheim@one.example:1080,http://two.example:3128")];
    let (_, descriptions) = Settings::read(Source::from_pairs(pairs).unwrap(), Role::AllInOne);
    let urls = descriptions.iter().find(|d| d.name == "PROXY__URLS").unwrap();
    assert_eq!(urls.value.as_deref(), Some("socks5://********@one.example:1080,http://two.example:3128"));
}

#[test]
fn settings_of_json_web_tokens_must_be_safe() {
    let refused = |changes: &[(&str, &str)]| {
        let base = [
            ("PROXY__PROXY_ENABLED", "false"),
            ("SECURITY__JWT_ISSUER", "https://auth.example.org/realms/main"),
            ("SECURITY__JWT_AUDIENCE", "proxytorrent"),
        ];
        let pairs = base.iter().chain(changes).copied().collect::<std::collections::BTreeMap<_, _>>();
        Settings::from_pairs(pairs).err().map(|problems| problems.to_string()).unwrap_or_default()
    };
    assert_eq!(refused(&[]), "");
    assert_eq!(refused(&[("SECURITY__JWT_ISSUER", "http://auth.lan"), ("SECURITY__JWT_DIRECT", "true")]), "");
    for (changes, problem) in [
        (&[("SECURITY__JWT_AUDIENCE", "")][..], "SECURITY__JWT_AUDIENCE: must be set"),
        (&[("SECURITY__JWT_ISSUER", "http://auth.example.org")], "SECURITY__JWT_ISSUER: is not https"),
        (&[("SECURITY__JWT_ISSUER", "https://a:b@auth.example.org")], "must have no user name"),
        (&[("SECURITY__JWT_ISSUER", "https://auth.example.org/?a=b")], "must have no user name"),
        (&[("SECURITY__AUTH_ENABLED", "false")], "has no effect while authentication is off"),
        (&[("FETCHER__VERIFY_SSL", "false")], "set FETCHER__VERIFY_SSL=true"),
    ] {
        assert!(refused(changes).contains(problem), "{changes:?}: {}", refused(changes));
    }
}
