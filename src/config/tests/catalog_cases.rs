//! The key `catalog`, wrong, for the same two readers.

/// Wrong catalogs, with the key and a word of the error.
pub const WRONG_CATALOGS: &[(&str, &str, &str)] = &[
    ("type: sql", "catalog.uri", "the key is missing"),
    ("type: sql, uri: s3cret", "catalog.uri", "not the address"),
    (
        "type: sql, uri: 'postgresql://u:${BAD}@h'",
        "catalog.uri",
        "not accepted",
    ),
    (
        "type: sql, uri: 'sqlite:///d/c.db', name: ''",
        "catalog.name",
        "empty",
    ),
    (
        "type: sql, uri: 'sqlite:///d/c.db', nam: x",
        "catalog.nam",
        "did you mean `name`?",
    ),
    (
        "type: storage, uri: 'sqlite:///d/c.db'",
        "catalog.uri",
        "goes with `type: sql` or `type: rest` or `type: biglake`",
    ),
    (
        "type: sql, uri: 'sqlite:///d/c.db', auth: {type: none}",
        "catalog.auth",
        "goes with `type: rest`",
    ),
    ("type: biglake", "catalog.warehouse", "the key is missing"),
    (
        "type: biglake, warehouse: 'gs://lake/folder', user_project: p",
        "catalog.warehouse",
        "names no catalog of BigLake",
    ),
    (
        "type: biglake, warehouse: 'bl://projects/p/catalogs/c', user_project: 'a b'",
        "catalog.user_project",
        "no id that Google gives",
    ),
    (
        "type: biglake, warehouse: 'bq://projects/p', uri: 'https://u:s3cret@h'",
        "catalog.uri",
        "names a user",
    ),
    (
        "type: biglake, warehouse: 'bq://projects/p', auth: {type: none}",
        "catalog.auth",
        "goes with `type: rest`",
    ),
    ("type: rest", "catalog.uri", "the key is missing"),
    ("type: rest, uri: catalog.example.com", "catalog.uri", "not a URL"),
    (
        "type: rest, uri: 'https://u:s3cret@h'",
        "catalog.uri",
        "goes into `auth`",
    ),
    (
        "type: rest, uri: 'https://h/?token=s3cret'",
        "catalog.uri",
        "has a `?`",
    ),
    (
        "type: rest, uri: 'https://h', warehouse: ''",
        "catalog.warehouse",
        "empty",
    ),
    (
        "type: rest, uri: 'https://h', prefix: 'a/../b'",
        "catalog.prefix",
        "dotted part",
    ),
    (
        "type: rest, uri: 'https://h', name: x",
        "catalog.name",
        "goes with `type: sql`",
    ),
    (
        "type: rest, uri: 'https://h', user_project: p",
        "catalog.user_project",
        "goes with `type: biglake`",
    ),
    (
        "type: rest, uri: 'https://h', auth: {token: s3cret}",
        "catalog.auth.type",
        "the key is missing",
    ),
    (
        "type: rest, uri: 'https://h', auth: {type: none, token: s3cret}",
        "catalog.auth.token",
        "goes with `type: bearer`",
    ),
    (
        "type: rest, uri: 'https://h', auth: {type: bearer}",
        "catalog.auth.token",
        "the key is missing",
    ),
    (
        "type: rest, uri: 'https://h', auth: {type: bearer, token: 's3cret x'}",
        "catalog.auth.token",
        "visible ASCII",
    ),
    (
        "type: rest, uri: 'https://h', auth: {type: bearer, token: '${BAD}'}",
        "catalog.auth.token",
        "not accepted",
    ),
    (
        "type: rest, uri: 'https://h', auth: {type: oauth2}",
        "catalog.auth.credential",
        "the key is missing",
    ),
    (
        "type: rest, uri: 'https://h', auth: {type: oauth2, credential: a, oauth2-server-uri: x}",
        "catalog.auth.oauth2-server-uri",
        "did you mean `oauth2_server_uri`?",
    ),
    (
        "type: rest, uri: 'https://h', auth: {type: sigv4}",
        "catalog.auth.type",
        "`sigv4` is not in this version",
    ),
    (
        "type: rest, uri: 'https://h', headers: {'a b': s3cret}",
        "catalog.headers.a b",
        "not the name of a header",
    ),
    (
        "type: rest, uri: 'https://h', headers: {Host: s3cret}",
        "catalog.headers.Host",
        "set by landfast",
    ),
    (
        "type: rest, uri: 'https://h', headers: {X-Team: \"s3cret\\n\"}",
        "catalog.headers.X-Team",
        "cannot be a header's",
    ),
];

/// The same, of what no schema can tell.
pub const DEEPER_WRONG_CATALOGS: &[(&str, &str, &str)] = &[
    (
        "type: rest, uri: 'https://h', auth: {type: bearer, token: t}, headers: {authorization: s3cret}",
        "catalog.headers.authorization",
        "`auth` sets this header",
    ),
    (
        "type: biglake, warehouse: 'gs://lake'",
        "catalog.warehouse",
        "write `user_project: PROJECT`",
    ),
];
