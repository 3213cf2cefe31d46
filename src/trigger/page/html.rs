//! The status page as HTML, whole without its script: that only fetches it anew.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

use super::status::{Commit, InFlight, Instance, Letters, Publish, Status, Sums, TableStatus, Totals};
use super::text::{Html, ago, bytes, duration, number};
use super::{SCRIPT, STYLE, chart};
use crate::publish::NO_TABLE;

const HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
    <meta name=\"robots\" content=\"noindex\">\n\
    <noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>\n\
    <link rel=\"icon\" href=\"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath \
    d='M1 12 5 4l3 5 2-3 5 6z' fill='%233b82b8'/%3E%3C/svg%3E\">\n<title>";

/// What stands where there is no number.
const NONE: &str = "<span class=\"none\">–</span>";

/// Writes the page.
pub(super) fn page(status: &Status) -> String {
    let mut html = Html::default();
    let name = status.instance.service.as_deref().unwrap_or("landfast");
    html.markup(HEAD).text(name).markup(": tables</title>\n<style>");
    html.markup(STYLE).markup("</style>\n</head>\n<body>\n");
    html.markup("<p id=\"stale\" role=\"status\" hidden>No answer since <b></b>. These figures are of then.</p>\n<main>\n");
    header(status, &mut html);
    figures(status, &mut html);
    tables(status, &mut html);
    footer(&status.instance, &mut html);
    html.markup("</main>\n<script>")
        .markup(SCRIPT)
        .markup("</script>\n</body>\n</html>\n");
    html.done()
}

fn header(status: &Status, html: &mut Html) {
    let Instance {
        service,
        revision,
        host,
        id,
        ..
    } = &status.instance;
    html.markup("<header><h1>");
    html.text(service.as_deref().unwrap_or("landfast"));
    html.markup("</h1><p class=\"");
    match status.is_stopping {
        true => html.markup("state failing\"><i></i>stopping"),
        false => html.markup("state open\"><i></i>running"),
    };
    html.markup("</p><p class=\"who\">");
    for part in [revision, host].into_iter().flatten() {
        html.markup("<bdi>").text(part).markup("</bdi> · ");
    }
    html.markup("instance <b>")
        .text(id)
        .markup("</b> · as of <time datetime=\"");
    html.text(rfc3339(status.at))
        .markup("\">")
        .text(status.at.format("%H:%M:%S"))
        .markup(" UTC</time></p></header>\n");
}

fn figures(status: &Status, html: &mut Html) {
    let Totals { sums, .. } = &status.totals;
    html.markup("<dl class=\"figures\">\n");
    let InFlight {
        bytes: held,
        max_bytes,
        requests,
        max_requests,
    } = status.in_flight;
    limit("Held", bytes(held), bytes(max_bytes), (held, max_bytes), html);
    limit(
        "Requests in flight",
        number(requests),
        number(max_requests),
        (requests, max_requests),
        html,
    );
    figure("Rows landed", sums.rows_landed, "", html);
    figure("Commits", sums.commits, "", html);
    figure(
        "Conflicts",
        sums.conflicts.saturating_add(sums.unknown_outcomes),
        "",
        html,
    );
    figure("Duplicates", sums.duplicates, "", html);
    figure("Dead letters", sums.dead_letters.count, "warn", html);
    figure("Batches given up", sums.abandoned_batches, "bad", html);
    html.markup("</dl>\n");
    if status.unrouted.count > 0 {
        html.markup("<p class=\"unrouted warn\">")
            .text(number(status.unrouted.count));
        html.markup(" dead letters that no table wanted: ");
        reasons(&status.unrouted, status.at, html);
        html.markup("</p>\n");
    }
}

/// What is held, beside what may be.
fn limit(name: &'static str, held: String, most: String, (part, whole): (u64, u64), html: &mut Html) {
    let share = u128::from(part) * 100 / u128::from(whole.max(1));
    html.markup("<div><dt>")
        .markup(name)
        .markup("</dt><dd>")
        .text(held);
    html.markup(" <small>of ")
        .text(most)
        .markup("</small><svg class=\"bar");
    // Where batches are flushed early.
    html.markup(if share >= 80 { " high" } else { "" });
    html.markup("\" viewBox=\"0 0 100 3\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect width=\"");
    html.text(share).markup("\" height=\"3\"/></svg></dd></div>\n");
}

/// A count, which stands out by `class` once there is one.
fn figure(name: &'static str, count: u64, class: &'static str, html: &mut Html) {
    html.markup("<div><dt>").markup(name).markup("</dt><dd class=\"");
    html.markup(if count > 0 { class } else { "none" });
    html.markup("\">").text(number(count)).markup("</dd></div>\n");
}

fn tables(status: &Status, html: &mut Html) {
    let Totals {
        tables,
        opened,
        failing,
        behind,
        are_tables_left_out,
        ..
    } = status.totals;
    html.markup("<p class=\"count\">").text(number(tables as u64));
    html.markup(if tables == 1 { " table, " } else { " tables, " });
    html.text(number(opened as u64)).markup(" opened here");
    if failing > 0 {
        html.markup(", <b class=\"bad\">")
            .text(failing)
            .markup(" failing</b>");
    }
    if behind > 0 {
        html.markup(", <b class=\"warn\">")
            .text(behind)
            .markup(" behind in BigQuery</b>");
    }
    if are_tables_left_out {
        html.markup("; there are more, which are in the sums alone");
    }
    html.markup("</p>\n");
    if status.tables.is_empty() {
        html.markup("<p class=\"empty\">No table yet: each shows up with its first delivery.</p>\n");
        return;
    }
    html.markup(
        "<table>\n<thead><tr><th scope=\"col\">Table</th><th scope=\"col\">Rows</th><th scope=\"col\">Last commit</th>\
         <th scope=\"col\">Freshness</th><th scope=\"col\">Recent commits</th><th scope=\"col\">Conflicts</th>\
         <th scope=\"col\">Duplicates</th><th scope=\"col\">Dead letters</th><th scope=\"col\">BigQuery</th></tr></thead>\n<tbody>\n",
    );
    for table in &status.tables {
        row(table, status.at, html);
    }
    html.markup("</tbody>\n</table>\n");
    pages(status, html);
}

fn pages(status: &Status, html: &mut Html) {
    if status.pages < 2 {
        return;
    }
    html.markup("<nav>");
    if status.page > 1 {
        html.markup("<a rel=\"prev\" href=\"?page=")
            .text(status.page - 1)
            .markup("\">Previous</a> ");
    }
    html.markup("page ")
        .text(status.page)
        .markup(" of ")
        .text(status.pages);
    if status.page < status.pages {
        html.markup(" <a rel=\"next\" href=\"?page=")
            .text(status.page + 1)
            .markup("\">Next</a>");
    }
    html.markup("</nav>\n");
}

fn row(table: &TableStatus, now: DateTime<Utc>, html: &mut Html) {
    let Sums {
        commits,
        rows_landed,
        conflicts,
        unknown_outcomes,
        duplicates,
        dead_letters,
        ..
    } = &table.sums;
    html.markup("<tr><th scope=\"row\" class=\"state ")
        .markup(table.state)
        .markup("\"><i></i><bdi>");
    html.text(&table.name).markup("</bdi>");
    state(table, now, html);
    html.markup("</th>");

    cell("Rows", html);
    match table.rows {
        Some(rows) => html.text(number(rows)),
        None => html.markup(NONE),
    };
    if *rows_landed > 0 {
        html.markup("<small>")
            .text(number(*rows_landed))
            .markup(" landed here</small>");
    }
    html.markup("</td>");

    cell("Last commit", html);
    match &table.last_commit {
        Some(commit) => last_commit(commit, now, html),
        None => {
            html.markup(NONE);
        }
    }
    html.markup("</td>");

    cell("Freshness", html);
    match table.freshness_seconds {
        Some(seconds) => html.text(told(seconds)),
        None => html.markup(NONE),
    };
    html.markup("</td>");

    html.markup("<td data-label=\"Recent commits\" class=\"commits\">");
    if table.recent_commits.is_empty() {
        html.markup(NONE);
    } else {
        chart::draw(&table.recent_commits, html);
        html.markup("<small>")
            .text(number(*commits))
            .markup(if *commits == 1 {
                " commit</small>"
            } else {
                " commits</small>"
            });
    }
    html.markup("</td>");

    cell("Conflicts", html);
    count(*conflicts, "", html);
    if *unknown_outcomes > 0 {
        html.markup("<small>")
            .text(number(*unknown_outcomes))
            .markup(" unanswered</small>");
    }
    html.markup("</td>");

    cell("Duplicates", html);
    count(*duplicates, "", html);
    html.markup("</td>");

    html.markup("<td data-label=\"Dead letters\" class=\"letters\">");
    count(dead_letters.count, "warn", html);
    reasons(dead_letters, now, html);
    html.markup("</td>");

    html.markup("<td data-label=\"BigQuery\" class=\"publish\">");
    publish(&table.publish, html);
    html.markup("</td></tr>\n");
}

fn cell(name: &'static str, html: &mut Html) {
    html.markup("<td data-label=\"").markup(name).markup("\">");
}

/// A count, which stands out by `class` once there is one.
fn count(count: u64, class: &'static str, html: &mut Html) {
    html.markup("<span class=\"")
        .markup(if count > 0 { class } else { "none" });
    html.markup("\">").text(number(count)).markup("</span>");
}

/// What the dot beside the name means, in words, where it is not the usual.
fn state(table: &TableStatus, now: DateTime<Utc>, html: &mut Html) {
    match (&table.failure, table.state) {
        (Some(failure), "failing") => {
            html.markup("<small class=\"bad\">failing: ")
                .text(failure.kind)
                .markup(", ");
            html.text(ago(failure.at, now)).markup("</small>");
        }
        (_, "behind") => {
            html.markup("<small class=\"warn\">behind in BigQuery</small>");
        }
        (_, "not_opened") => {
            html.markup("<small>not opened</small>");
        }
        _ => {}
    }
}

fn last_commit(commit: &Commit, now: DateTime<Utc>, html: &mut Html) {
    html.markup("<time datetime=\"")
        .text(rfc3339(commit.at))
        .markup("\">");
    html.text(ago(commit.at, now))
        .markup("</time><small>")
        .text(number(commit.rows));
    html.markup(if commit.rows == 1 { " row in " } else { " rows in " });
    html.text(told(commit.seconds)).markup("</small>");
}

fn reasons(letters: &Letters, now: DateTime<Utc>, html: &mut Html) {
    for reason in &letters.latest {
        html.markup("<small><bdi>")
            .text(&reason.reason)
            .markup("</bdi> ")
            .text(number(reason.count));
        html.markup(", ")
            .text(ago(reason.last_at, now))
            .markup("</small>");
    }
}

fn publish(publish: &Publish, html: &mut Html) {
    match publish.state {
        "by_catalog" => {
            html.markup("<span class=\"none\">reads the catalog</span>");
        }
        "waiting" => {
            html.markup("<span class=\"none\">no commit yet</span>");
        }
        NO_TABLE => {
            html.markup("<span class=\"none\">no such table in the catalog</span><small>")
                .text(NO_TABLE)
                .markup("</small>");
        }
        "current" => {
            html.markup("current");
        }
        "behind" => {
            let behind = publish.behind_seconds.unwrap_or_default();
            let class = if publish.failed.is_some() { "warn" } else { "" };
            html.markup("<span class=\"")
                .markup(class)
                .markup("\">behind ")
                .text(told(behind))
                .markup("</span>");
            if let Some(kind) = publish.failed {
                html.markup("<small>").text(kind).markup("</small>");
            }
        }
        _ => {
            html.markup("<span class=\"none\">off</span>");
        }
    }
    if let Some(external) = &publish.external_table {
        html.markup("<small><bdi>")
            .text(external)
            .markup("</bdi></small>");
    }
}

fn footer(instance: &Instance, html: &mut Html) {
    html.markup("<footer>What this one process saw and did since it started, <time datetime=\"");
    html.text(rfc3339(instance.started_at)).markup("\">");
    html.text(instance.started_at.format("%Y-%m-%d %H:%M")).markup(" UTC</time>: other instances have their own. Rows are \
        those of the newest snapshot that it knows. The same as JSON: <a href=\"/v1/tables\">/v1/tables</a>. landfast ");
    html.text(instance.version)
        .markup(", process ")
        .text(instance.pid)
        .markup(".</footer>\n");
}

fn told(seconds: f64) -> String {
    duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::super::status::tests::table_of;
    use super::super::status::{Failure, Reason};
    use super::*;

    const HOSTILE: &str = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>&\0\u{1b}";

    fn hostile_letters(at: DateTime<Utc>) -> Letters {
        let reason = Reason {
            reason: HOSTILE.to_owned(),
            count: 7,
            last_at: at,
        };
        Letters {
            count: 7,
            latest: vec![reason],
        }
    }

    #[test]
    fn names_of_others_are_never_markup() {
        let at = DateTime::UNIX_EPOCH;
        let mut table = table_of(HOSTILE, "failing");
        table.sums.dead_letters = hostile_letters(at);
        table.publish.state = "behind";
        table.publish.external_table = Some(HOSTILE.to_owned());
        table.failure = Some(Failure {
            kind: "unavailable",
            at,
            lasts: true,
        });
        let totals = Totals {
            tables: 1,
            opened: 1,
            failing: 1,
            behind: 1,
            sums: Sums::default(),
            are_tables_left_out: true,
        };
        let html = page(&Status {
            instance: Instance {
                version: "0",
                service: Some(HOSTILE.to_owned()),
                revision: Some(HOSTILE.to_owned()),
                host: Some(HOSTILE.to_owned()),
                pid: 1,
                id: HOSTILE.to_owned(),
                started_at: at,
            },
            at,
            is_stopping: true,
            in_flight: InFlight {
                bytes: u64::MAX,
                max_bytes: 0,
                requests: 801,
                max_requests: 1_000,
            },
            totals,
            unrouted: hostile_letters(at),
            page: 1,
            pages: 2,
            tables: vec![table],
        });
        // The page's own, and no other.
        assert_eq!(html.matches("<script").count(), 1);
        assert_eq!(html.matches("</script").count(), 1);
        assert!(!html.contains("<img") && !html.contains(['\0', '\u{1b}']));
        let escaped = "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&gt;&lt;img src=x onerror=alert(2)&gt;&amp;";
        assert_eq!(html.matches(escaped).count(), 9, "{html}");
        for shown in [
            "stopping",
            "failing: unavailable",
            "class=\"bar high\"",
            "?page=2",
        ] {
            assert!(html.contains(shown), "{shown}: {html}");
        }
    }
}
