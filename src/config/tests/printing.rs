//! What is printed reads back; and no input at all makes the reader panic.

use proptest::prelude::*;

use super::cases::VALID;
use super::*;

#[test]
fn printed_configurations_read_back_as_they_were() {
    let no_env = |_: &str| None;
    let valid = VALID
        .iter()
        .map(|(catalog, rest)| format!("{HEAD}{rest}").replace("type: storage", catalog));
    let examples = [
        EXAMPLE.replace("  api_auth", "  # api_auth"),
        include_str!("../../../examples/files.yaml").to_owned(),
    ];
    for text in valid.chain(examples) {
        let config = parse(&text);
        let yaml = config.to_yaml();
        let again =
            Config::parse("printed.yaml", &yaml, &no_env).unwrap_or_else(|error| panic!("{yaml}\n{error}"));
        assert_eq!(again, config, "{yaml}");
        let json = config.to_json().to_string();
        assert_eq!(
            Config::parse("printed.json", &json, &no_env).unwrap(),
            config,
            "{json}"
        );
    }
}

#[test]
fn topic_of_dead_letters_is_printed_and_keeps_a_place_to_wait() {
    for (warehouse, waiting) in [
        ("file:///w", "file:///w/_landfast/dead-letters"),
        ("gs://lake", "gs://lake/_landfast/dead-letters"),
    ] {
        for (topic, rest) in [
            ("letters", ""),
            ("projects/p/topics/letters", ", before: 'file:///d'"),
        ] {
            let text = format!("{HEAD}{TABLE}")
                .replace("file:///d", &format!("{{topic: {topic}{rest}}}"))
                .replace("file:///w", warehouse);
            let config = parse(&text);
            assert_eq!(config.dead_letter_topic.as_deref(), Some(topic));
            assert_eq!(config.dead_letters.to_string(), waiting);
            let before = config.dead_letters_before.as_ref().map(ToString::to_string);
            assert_eq!(before.as_deref(), (!rest.is_empty()).then_some("file:///d"));
            for printed in [config.to_yaml(), config.to_json().to_string()] {
                assert_eq!(
                    Config::parse("f", &printed, &|_| None).unwrap(),
                    config,
                    "{printed}"
                );
            }
        }
    }
}

#[test]
fn printed_configurations_hide_secrets() {
    let config = parse(EXAMPLE);
    let shown = format!("{}{}{config:?}", config.to_yaml(), config.to_json());
    assert!(!shown.contains("s3cret"));
    assert!(config.to_yaml().contains("    bearer: \"***\"\n"));
}

#[test]
fn printed_database_hides_its_password() {
    let text = format!("{HEAD}{TABLE}").replace(
        "type: storage",
        "type: sql, uri: 'postgresql://u:${API_TOKEN}@h/db?sslmode=require'",
    );
    let config = parse(&text);
    let shown = format!("{}{}{config:?}", config.to_yaml(), config.to_json());
    assert!(!shown.contains("s3cret"), "{shown}");
    let yaml = config.to_yaml();
    assert!(
        yaml.contains("  uri: \"postgresql://u:***@h/db?sslmode=require\"\n  name: landfast\n"),
        "{yaml}"
    );
}

#[test]
fn dev_needs_no_file_and_prints_one_that_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::dev(folder.path(), "127.0.0.1:8080".parse().unwrap()).unwrap();
    assert_eq!(
        config.warehouse.to_string(),
        format!("file://{}/warehouse", folder.path().display())
    );
    assert_eq!(
        config.dead_letters.to_string(),
        format!("file://{}/dead-letters", folder.path().display())
    );
    assert_eq!(config.server.require_push_auth().unwrap(), &PushAuth::Off);
    assert_eq!(
        config.defaults.to_table().batch.commit_interval,
        Duration::from_millis(100)
    );
    assert_eq!(config.routes[0].table.to_string(), "landfast.{subscription}");
    assert_eq!(config.routes[1].table.to_string(), "landfast.{folder}");
    let landing = format!("file://{}/landing", folder.path().display());
    assert_eq!(config.landing_folders(), [&landing.parse().unwrap()].into());
    assert_eq!(
        Config::parse("dev.yaml", &config.to_yaml(), &|_| None).unwrap(),
        config
    );
    let relative = Config::dev(Path::new("data"), "127.0.0.1:0".parse().unwrap()).unwrap();
    assert!(
        relative.warehouse.path().starts_with('/') && relative.warehouse.path().ends_with("/data/warehouse")
    );
    let error = Config::dev(Path::new("/a%20b"), "127.0.0.1:0".parse().unwrap()).unwrap_err();
    assert!(error.message().contains("--dir"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_bytes_are_a_configuration_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Config::check("f", &String::from_utf8_lossy(&bytes), &env);
    }

    #[test]
    fn any_yaml_like_text_is_a_configuration_or_an_error(
        text in "(warehouse|catalog|tables|routes|server|a\\.b|from|schema|[ \n:{}\\[\\],\"'|>&*!%#?-]|\\$\\{|x){0,60}"
    ) {
        let _ = Config::check("f", &text, &env);
    }

    #[test]
    fn a_damaged_configuration_is_one_or_an_error(at in 0..EXAMPLE.len(), cut in 0..40_usize, put in "[ -~\n]{0,3}") {
        let end = (at + cut).min(EXAMPLE.len());
        let text = format!("{}{put}{}", &EXAMPLE[..at], &EXAMPLE[end..]);
        let _ = Config::check("f", &text, &env);
    }

    #[test]
    fn any_property_is_printed_and_read_back(name in "\\PC{1,20}", value in any::<String>()) {
        let mut config = Config::dev(Path::new("/data"), "127.0.0.1:0".parse().unwrap()).unwrap();
        config.defaults.properties.insert(format!("p{name}"), value);
        let again = Config::parse("f", &config.to_yaml(), &|_| None);
        prop_assert_eq!(again.unwrap(), config);
    }
}
