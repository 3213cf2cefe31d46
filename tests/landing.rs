//! From push to rows through the real binary: every shape of JSON, inferred schemas, poison, routes.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::support::lake::Lake;
use crate::support::push::Push;
use crate::support::readers::{Reader, sort_by};
use crate::support::server::Server;
use crate::support::{TestResult, gzip, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        json_of_every_shape_lands_in_an_inferred_table,
        envelope_table_keeps_every_message,
        broken_records_cost_their_neighbours_nothing,
        inference_follows_its_rules,
        field_of_nulls_waits_for_its_type,
        unknown_fields_are_ignored_and_counted_by_name,
        thousand_pushes_with_poison_land_and_letter_once,
        letters_of_a_delivery_are_kept_when_more_of_it_turns_bad,
        messages_are_routed_by_subscription_attribute_and_template,
    ]
}

/// Payloads of rows with the ids 1 to 22, two in most.
fn shapes() -> TestResult<Vec<Vec<u8>>> {
    let plain = [
        "{\"id\":1,\"name\":\"object\"}",
        "[{\"id\":2,\"name\":\"array\"},{\"id\":3,\"name\":\"array\"}]",
        "{\"id\":4,\"name\":\"ndjson\"}\n{\"id\":5,\"name\":\"ndjson\"}\n",
        "{\"id\":6,\"name\":\"crlf\"}\r\n\r\n{\"id\":7,\"name\":\"crlf\"}\r\n",
        "{\"id\":8,\"name\":\"concatenated\"}{\"id\":9,\"name\":\"concatenated\"} {\"id\":10,\"name\":\"concatenated\"}",
        "\u{feff}{\"id\":11,\"name\":\"mark\"}",
        "\u{feff}\n [\n  {\n \"id\":12,\n\"name\":\"pretty\"},\n\n{\"id\":13,\"name\":\"pretty\"}\n]\n",
        "{\n  \"id\": 14,\n  \"name\": \"pretty\"\n}\n{\n  \"id\": 15,\n  \"name\": \"pretty\"\n}",
    ];
    let mut payloads: Vec<Vec<u8>> = plain.iter().map(|text| text.as_bytes().to_vec()).collect();
    payloads.push(gzip(
        "{\"id\":16,\"name\":\"gzip\"}\n{\"id\":17,\"name\":\"gzip\"}",
    )?);
    let members = [
        gzip("{\"id\":18,\"name\":\"members\"}\n")?,
        gzip("{\"id\":19,\"name\":\"members\"}")?,
    ];
    payloads.push(members.concat());
    payloads.push(zstd::encode_all(
        &b"[{\"id\":20,\"name\":\"zstd\"},{\"id\":21,\"name\":\"zstd\"}]"[..],
        3,
    )?);
    payloads.push(zstd::encode_all(
        &b"\xef\xbb\xbf{\"id\":22,\"name\":\"zstd\"}"[..],
        1,
    )?);
    Ok(payloads)
}

fn pushes(subscription: &str, payloads: &[Vec<u8>]) -> Vec<Push> {
    let each = payloads.iter().enumerate();
    each.map(|(id, payload)| Push::new(subscription, id, payload))
        .collect()
}

async fn json_of_every_shape_lands_in_an_inferred_table() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::dev(lake.path()).await?;
    let pushes = pushes("shapes", &shapes()?);
    assert_eq!(
        server.pusher().push_all(&pushes, 4).await,
        vec![204; pushes.len()]
    );
    let rows = lake.rows("landfast.shapes", "id")?;
    let ids: Vec<_> = rows.iter().filter_map(|row| row["id"].as_i64()).collect();
    assert_eq!(ids, (1..=22).collect::<Vec<_>>());
    assert_eq!(
        (&rows[0]["name"], &rows[21]["name"]),
        (&json!("object"), &json!("zstd"))
    );
    assert_eq!(lake.dead_letters()?, Vec::<Value>::new());
    Ok(())
}

async fn envelope_table_keeps_every_message() -> TestResult {
    let lake = Lake::new()?;
    let rest = "tables: { audit.raw: { from: [{ subscription: audit }], schema: envelope } }";
    let server = Server::serve(&lake.config("", rest)?).await?;
    let mut payloads = shapes()?;
    // Compressed or not, whole or broken: the bytes are kept as they came.
    let broken = [b"\x1f\x8bno gzip".to_vec(), b"\x28\xb5\x2f\xfd".to_vec()];
    payloads.extend(broken);
    payloads.extend([b"not json \xff\x00".to_vec(), Vec::new()]);
    let at = chrono::DateTime::from_timestamp_micros(1_795_231_323_004_005).ok_or("a time")?;
    let pushes: Vec<_> = pushes("audit", &payloads)
        .into_iter()
        .map(|push| {
            push.published_at(at)
                .attribute("kind", "é")
                .attribute("empty", "")
        })
        .chain([Push::new("audit", payloads.len(), "")
            .without_data()
            .published_at(at)])
        .collect();
    assert_eq!(
        server.pusher().push_all(&pushes, 16).await,
        vec![204; pushes.len()]
    );
    payloads.push(Vec::new());
    let mut rows = lake.rows("audit.raw", "id")?;
    rows.sort_by_key(|row| row["id"].as_str().and_then(|id| id.parse::<usize>().ok()));
    assert_eq!(rows.len(), payloads.len());
    for (row, payload) in rows.iter().zip(&payloads) {
        assert_eq!(row["payload"], STANDARD.encode(payload));
        assert_eq!(row["source"], "projects/p-test/subscriptions/audit");
        assert_eq!(row["published_at"], "2026-11-21T03:22:03.004005Z");
        assert!(row["ingested_at"].as_str() > Some("2020"));
    }
    assert_eq!(rows[0]["attributes"], json!([["empty", ""], ["kind", "é"]]));
    assert_eq!(rows[payloads.len() - 1]["attributes"], json!([]));
    assert_eq!(lake.dead_letters()?, Vec::<Value>::new());
    Ok(())
}

async fn broken_records_cost_their_neighbours_nothing() -> TestResult {
    let lake = Lake::new()?;
    let rest = "tables: { t.rows: { from: [{ subscription: rows }], schema: [{ name: id, type: long }] } }";
    let server = Server::serve(&lake.config("", rest)?).await?;
    // Of a field that no column takes, no depth is too deep.
    let deep = format!("{{\"id\":8,\"x\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    let zipped = gzip("{\"id\":9}")?;
    let payloads: Vec<Vec<u8>> = vec![
        b"{\"id\":1}\n{\"id\":\n{\"id\":}\n{\"id\":2}".to_vec(),
        b"{\"id\":3}\n{\"id\":\"\xff\"}\n{\"id\":4}".to_vec(),
        b"[{\"id\":5},7,null,{\"id\":6}]".to_vec(),
        b"{\"id\":7}{\"id\":".to_vec(),
        deep.into_bytes(),
        zipped[..zipped.len() - 4].to_vec(),
        b"\x28\xb5\x2f\xfdnonsense".to_vec(),
        b"".to_vec(),
        b"\"text\"".to_vec(),
        b"[]".to_vec(),
    ];
    let pushes = pushes("rows", &payloads);
    assert_eq!(
        server.pusher().push_all(&pushes, 16).await,
        vec![204; pushes.len()]
    );
    let (ids, rows) = lake.ids("t.rows", "id")?;
    assert_eq!((ids, rows), ((1..=8).collect(), 8));
    let letters = lake.dead_letters()?;
    let kinds: BTreeSet<_> = letters
        .iter()
        .filter_map(|letter| letter["reason"]["kind"].as_str())
        .collect();
    let expected = [
        "compression",
        "empty_payload",
        "not_an_object",
        "not_utf8",
        "syntax",
        "truncated",
    ];
    assert!(expected.iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
    // What became no row is in a letter, byte for byte.
    for (letter, raw) in [("5", &payloads[5]), ("6", &payloads[6]), ("8", &payloads[8])] {
        let found = letters
            .iter()
            .find(|found| found["delivery_id"] == format!("projects/p-test/subscriptions/rows/{letter}"));
        assert_eq!(
            found.ok_or("a letter")?["raw"],
            STANDARD.encode(raw),
            "letter of {letter}"
        );
    }
    Ok(())
}

async fn inference_follows_its_rules() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::dev(lake.path()).await?;
    let rows = concat!(
        r#"{"id":1,"n":2,"x":1,"at":"2026-01-02T03:04:05.678901+01:00","day":"2026-02-28","o":{"a":1,"s":"t"},"l":[1,2],"#,
        r#""mix":1,"none":null,"flag":true,"text":"2026-13-01","wide":18446744073709551615,"late":"2026-01-01","void":[]}"#,
        "\n",
        r#"{"id":2,"n":-9223372036854775808,"x":1.5,"at":"2026-01-02T03:04:05Z","day":"0001-01-01","#,
        r#""o":{"a":2.5,"b":[{"c":"d"}]},"l":[3.5,null],"mix":{"k":[1]},"none":null,"flag":false,"text":"plain","wide":1,"#,
        r#""late":"2026-01-01T00:00:00Z","new":7}"#,
    );
    assert_eq!(server.pusher().push(&Push::new("events", 1, rows)).await, 204);
    let described = Reader::pyiceberg()?.describe(lake.metadata("landfast.events")?)?;
    let fields = described["schemas"][0]["fields"].as_array().ok_or("fields")?;
    let kind = |name: &str| {
        fields
            .iter()
            .find(|field| field["name"] == name)
            .map_or(&Value::Null, |field| &field["type"])
    };
    for (name, expected) in [
        ("id", "long"),
        ("n", "long"),
        ("x", "double"),
        ("at", "timestamptz"),
        ("day", "date"),
        ("mix", "string"),
        ("flag", "boolean"),
        ("text", "string"),
        ("wide", "string"),
        ("late", "string"),
        ("new", "long"),
    ] {
        assert_eq!(kind(name), expected, "{name}");
    }
    assert_eq!((kind("none"), kind("void")), (&Value::Null, &Value::Null));
    assert_eq!(
        (&kind("o")["type"], &kind("l")["type"]),
        (&json!("struct"), &json!("list"))
    );
    assert_eq!(
        (&kind("o")["fields"][0]["type"], &kind("l")["element"]),
        (&json!("double"), &json!("double"))
    );
    assert!(fields.iter().all(|field| field["required"] == false));

    let metadata = lake.metadata("landfast.events")?;
    let mut rows = Reader::duckdb()?.rows(&metadata)?;
    sort_by(&mut rows, "id");
    assert_eq!(
        (&rows[0]["mix"], &rows[1]["mix"]),
        (&json!("1"), &json!("{\"k\":[1]}"))
    );
    assert_eq!(
        (&rows[0]["wide"], &rows[0]["at"]),
        (
            &json!("18446744073709551615"),
            &json!("2026-01-02T02:04:05.678901Z")
        )
    );
    assert_eq!(rows[1]["o"], json!({"a": 2.5, "s": null, "b": [{"c": "d"}]}));
    assert_eq!(
        (&rows[0]["l"], &rows[1]["l"]),
        (&json!([1.0, 2.0]), &json!([3.5, null]))
    );
    assert_eq!(rows[0]["late"], "2026-01-01");

    // The schema is decided: what does not fit it later is a dead letter, not another type.
    let later = [r#"{"id":3,"mix":[true]}"#, r#"{"id":"four"}"#];
    let pushes: Vec<_> = later
        .iter()
        .zip(2..)
        .map(|(row, id)| Push::new("events", id, row))
        .collect();
    assert_eq!(server.pusher().push_all(&pushes, 2).await, [204, 204]);
    assert_eq!(Reader::duckdb()?.count(lake.metadata("landfast.events")?)?, 3);
    let letters = lake.dead_letters()?;
    assert_eq!(
        (letters.len(), &letters[0]["reason"]["path"]),
        (1, &json!("$.id"))
    );
    Ok(())
}

async fn field_of_nulls_waits_for_its_type() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::dev(lake.path()).await?;
    // Nothing to make a table of: a letter, and the table comes with the first value.
    assert_eq!(
        server
            .pusher()
            .push(&Push::new("nulls", 1, r#"{"a":null,"b":[],"c":{}}"#))
            .await,
        204
    );
    assert!(lake.metadata("landfast.nulls").is_err());
    let letters = lake.dead_letters()?;
    assert_eq!(
        (letters.len(), &letters[0]["reason"]["kind"]),
        (1, &json!("no_schema"))
    );
    assert_eq!(letters[0]["raw"], STANDARD.encode(r#"{"a":null,"b":[],"c":{}}"#));
    assert_eq!(
        server
            .pusher()
            .push(&Push::new("nulls", 2, r#"{"a":7,"b":null}"#))
            .await,
        204
    );
    assert_eq!(lake.rows("landfast.nulls", "a")?, [json!({"a": 7})]);
    Ok(())
}

async fn unknown_fields_are_ignored_and_counted_by_name() -> TestResult {
    let lake = Lake::new()?;
    let rest = "tables: { t.rows: { from: [{ subscription: rows }], schema: [{ name: id, type: long }, \
                { name: o, type: \"struct<a: int>\" }] } }";
    let server = Server::serve(&lake.config("", rest)?).await?;
    let rows =
        r#"[{"id":1,"extra":1,"o":{"a":1,"deep":{"x":2}}},{"id":2,"extra":{"a":[1]}},{"id":3,"q\"\\\n":1}]"#;
    assert_eq!(server.pusher().push(&Push::new("rows", 1, rows)).await, 204);
    assert_eq!(
        lake.rows("t.rows", "id")?,
        [
            json!({"id": 1, "o": {"a": 1}}),
            json!({"id": 2, "o": null}),
            json!({"id": 3, "o": null})
        ]
    );
    let (_, metrics) = server.pusher().get("/metrics").await?;
    let count = |field: &str| {
        let line = metrics
            .lines()
            .find(|line| line.starts_with("landfast_unknown_fields_total{") && line.contains(field));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
    };
    assert_eq!(
        count("table=\"t.rows\",field=\"extra\"").or(count("field=\"extra\"")),
        Some(2),
        "{metrics}"
    );
    assert_eq!(count("field=\"o.deep\""), Some(1), "{metrics}");
    server.metric_is("landfast_unknown_fields_total", 4.0).await?;
    assert_eq!(lake.dead_letters()?, Vec::<Value>::new());

    // Names come from outside: a flood of them is one more series, not a thousand.
    let flood: Vec<_> = (0..1000).map(|n| format!("{{\"id\":{n},\"f{n}\":1}}")).collect();
    assert_eq!(
        server
            .pusher()
            .push(&Push::new("rows", 2, flood.join("\n")))
            .await,
        204
    );
    let (_, metrics) = server.pusher().get("/metrics").await?;
    let series = metrics
        .lines()
        .filter(|line| line.starts_with("landfast_unknown_fields_total{"))
        .count();
    assert!(series <= 101, "{series} series");
    server.metric_is("landfast_unknown_fields_total", 1004.0).await?;
    Ok(())
}

async fn thousand_pushes_with_poison_land_and_letter_once() -> TestResult {
    let lake = Lake::new()?;
    let server = Server::dev(lake.path()).await?;
    let poison = ["{\"id\":", "\"text\"", "{\"id\":\"x\"}", "\u{1}", "{\"id\":1}}"];
    let payload = |n: usize| {
        if n % 20 == 7 {
            poison[n / 20 % 4].to_owned()
        } else {
            json!({"id": n, "name": format!("row {n}")}).to_string()
        }
    };
    let at = chrono::DateTime::from_timestamp(1_795_231_323, 0).ok_or("a time")?;
    let pushes: Vec<_> = (0..1000)
        .map(|n| {
            Push::new("orders", n, payload(n))
                .published_at(at)
                .attribute("n", &n.to_string())
        })
        .collect();
    let statuses = server.pusher().push_all(&pushes, 32).await;
    assert!(statuses.iter().all(|status| *status == 204), "{statuses:?}");
    let (ids, rows) = lake.ids("landfast.orders", "id")?;
    assert_eq!((ids.len(), rows), (950, 950));

    let letters = lake.dead_letters()?;
    assert_eq!(letters.len(), 50);
    for letter in &letters {
        let n: usize = letter["attributes"]["n"].as_str().ok_or("n")?.parse()?;
        let delivery = format!("projects/p-test/subscriptions/orders/{n}");
        assert_eq!(letter["delivery_id"], delivery);
        assert_eq!(letter["id"], format!("{delivery}/0"));
        assert_eq!(letter["source"], "projects/p-test/subscriptions/orders");
        assert_eq!(letter["table"], "landfast.orders");
        assert_eq!(letter["published_at"], "2026-11-21T03:22:03Z");
        assert_eq!(
            STANDARD.decode(letter["raw"].as_str().ok_or("raw")?)?,
            payload(n).as_bytes()
        );
        assert_eq!(letter["landfast_version"], env!("CARGO_PKG_VERSION"));
        let reason = letter["reason"].as_object().ok_or("reason")?;
        assert!(reason["kind"].is_string() && reason["message"].is_string() && reason.contains_key("path"));
    }
    // Redelivered at once, and again after a restart: no letter is there twice.
    let poisoned: Vec<_> = pushes.iter().skip(7).step_by(20).cloned().collect();
    assert_eq!(server.pusher().push_all(&poisoned, 32).await, vec![204; 50]);
    server.metric_is("landfast_dead_letters_total", 50.0).await?;
    drop(server);
    let server = Server::dev(lake.path()).await?;
    assert_eq!(server.pusher().push_all(&poisoned, 32).await, vec![204; 50]);
    assert_eq!(lake.dead_letters()?, letters);
    assert_eq!(lake.rows("landfast.orders", "id")?.len(), 950);
    Ok(())
}

/// A delivery that is delivered again may lose more records than the first time: the configuration changed, or the
/// commit failed in between. The new ones must not hide behind the letters that are there.
async fn letters_of_a_delivery_are_kept_when_more_of_it_turns_bad() -> TestResult {
    let lake = Lake::new()?;
    let table = |kind: &str| {
        format!(
            "tables: {{ t.rows: {{ from: [{{ subscription: rows }}], schema: [{{ name: id, type: {kind} }}] }} }}"
        )
    };
    let push = Push::new("rows", 1, "{\"id\":\"bad\"}\n{\"id\":9000000000}\n");
    let server = Server::serve(&lake.config("", &table("long"))?).await?;
    assert_eq!(server.pusher().push(&push).await, 204);
    assert_eq!(lake.dead_letters()?.len(), 1);
    drop(server);
    std::fs::remove_dir_all(lake.table("t.rows"))?;
    let server = Server::serve(&lake.config("", &table("int"))?).await?;
    assert_eq!(server.pusher().push(&push).await, 204);
    let letters = lake.dead_letters()?;
    let positions: BTreeSet<_> = letters
        .iter()
        .filter_map(|letter| letter["position"].as_u64())
        .collect();
    assert_eq!(positions, BTreeSet::from([0, 1]), "{letters:?}");
    Ok(())
}

async fn messages_are_routed_by_subscription_attribute_and_template() -> TestResult {
    let lake = Lake::new()?;
    let rest = r#"
tables:
  shop.orders: { from: [{ subscription: all, attributes: { kind: order } }, { subscription: projects/p/subscriptions/o }] }
routes: [{ subscription: cdc, table: "cdc.{attributes.table}", allow: ["cdc.*"] }]
"#;
    let server = Server::serve(&lake.config("", rest)?).await?;
    let row = |id: i64| json!({"id": id}).to_string();
    let pushes = [
        Push::new("all", 1, row(1)).attribute("kind", "order"),
        Push::new("projects/p/subscriptions/o", 2, row(2)),
        Push::new("all", 3, row(3)).attribute("kind", "Order"),
        Push::new("projects/q/subscriptions/o", 4, row(4)),
        Push::new("cdc", 5, row(5)).attribute("table", "users"),
        Push::new("cdc", 6, row(6)).attribute("table", "../../users"),
        Push::new("cdc", 7, row(7)),
        Push::new("cdc", 8, row(8)).attribute("table", "a.b"),
    ];
    assert_eq!(server.pusher().push_all(&pushes, 8).await, [204; 8]);
    assert_eq!(lake.ids("shop.orders", "id")?, (BTreeSet::from([1, 2]), 2));
    assert_eq!(lake.ids("cdc.users", "id")?.1, 1);
    assert_eq!(lake.ids("cdc.______users", "id")?.1, 1);
    assert_eq!(lake.ids("cdc.a_b", "id")?.1, 1);
    let letters = lake.dead_letters()?;
    let ids: Vec<_> = letters
        .iter()
        .filter_map(|letter| letter["id"].as_str()?.rsplit('/').next())
        .collect();
    assert_eq!(ids, ["3", "7", "4"]);
    assert!(
        letters
            .iter()
            .all(|letter| letter["reason"]["kind"] == "no_route" && letter["table"].is_null())
    );
    Ok(())
}
