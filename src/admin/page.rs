//! The page `/`, for an operator who has only the address of the pod. It has the
//! content of `/statusz`, fits on a phone and loads nothing else. The template
//! escapes every value, because names of tenants are hostile input. Runs on the
//! thread of the operators' pages.

use super::view::{
    DelayView, FailingView, PartitionView, PartitionsView, RefusingView, UnreachableView, View,
};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use std::time::{Duration, UNIX_EPOCH};

/// Allows only the style of the page itself.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
     frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// Longer tables are folded, so that the end of the page stays in sight.
const ROWS_OPEN_MAX: usize = 24;

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8886; --bad: #c62828; --good: #2e7d32; --warn: #a15c00 }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a80; --good: #81c784; --warn: #ffb74d } }
body { font: 16px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 64rem; padding: .75rem }
h1 { font-size: 1.35rem; margin: .2rem 0 }
h2 { font-size: 1.05rem; margin: 1.4rem 0 .3rem }
.state { border-left: .4rem solid; margin: .6rem 0; overflow-wrap: anywhere; padding: .3rem .7rem }
.good { color: var(--good) } .bad { color: var(--bad) } .warn { color: var(--warn) }
dl { display: grid; gap: .3rem 1rem; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); margin: 0 }
dt { font-size: .8rem; opacity: .75 } dd { font-weight: 600; margin: 0; overflow-wrap: anywhere }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .6rem .25rem 0; text-align: left; vertical-align: top }
th { font-size: .8rem; white-space: nowrap }
td.n, th.n { font-variant-numeric: tabular-nums; text-align: right; white-space: nowrap }
td.t { max-width: 22rem; min-width: 7rem; overflow-wrap: anywhere }
small { opacity: .75 } summary { cursor: pointer } nav a { margin-right: 1rem }
";

/// The whole page.
pub fn render(view: &View<'_>, now_ms: i64) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="refresh" content="5";
                title { "ringback " (view.instance) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "ringback " (view.instance) }
                (state(view))
                (unreachable(&view.unreachable, now_ms))
                (refusing(&view.refusing, now_ms))
                (others(view, now_ms))
                (numbers(view, now_ms))
                (tenants(view, now_ms))
                (refused(view))
                (delays(&view.delays, now_ms))
                (partitions(&view.partitions))
                nav {
                    h2 { "More" }
                    a href="/statusz" { "this page as JSON" }
                    a href="/metrics" { "metrics" }
                    a href="/livez" { "liveness" }
                    a href="/healthz" { "health" }
                    a href="/readyz" { "readiness" }
                }
                p { small { "As of " (moment(now_ms)) "; reloads every 5 s." } }
            }
        }
    };
    page.into_string()
}

fn state(view: &View<'_>) -> Markup {
    let (class, word) = match (view.healthy, view.ready) {
        (false, _) => ("bad", "not healthy"),
        (true, false) => ("warn", "healthy, not ready"),
        (true, true) => ("good", "healthy and ready"),
    };
    html! {
        p class={ "state " (class) } {
            strong { (word) }
            @if let Some(reason) = &view.reason { ": " (reason) }
        }
    }
}

fn unreachable(brokers: &[UnreachableView], now_ms: i64) -> Markup {
    html! {
        @for broker in brokers {
            p class="state warn" {
                strong { "Broker " (broker.broker) " (" (broker.address) ") does not answer" } ", for "
                (span(since(broker.since, now_ms))) ". " (broker.partitions) " partitions wait for "
                "it. If the replica is ready, all others go on: check the way from this replica to "
                "the broker. If it is not, perhaps no broker answers."
            }
        }
    }
}

fn refusing(topics: &[RefusingView], now_ms: i64) -> Markup {
    html! {
        @for topic in topics {
            p class="state warn" {
                strong { (topic.topic) " refuses records: " (topic.reason) } ", for "
                (span(since(topic.since, now_ms))) ". " (topic.waiting) " records wait for it; all "
                "others go on. Remedy: " (topic.advice) "."
            }
        }
    }
}

/// What other programs hold.
fn others(view: &View<'_>, now_ms: i64) -> Markup {
    html! {
        @for blocked in &view.blocked {
            p class="state warn" {
                strong { (blocked.topic) "/" (blocked.partition) " is held back by an open transaction" }
                " of another producer at offset " (blocked.offset) ", for "
                (span(since(blocked.since, now_ms))) ". Remedy: end that transaction, or stop its producer."
            }
        }
        @for member in &view.foreign {
            p class="state warn" {
                strong { "Another program in the group has " (member.partitions) " partitions" } " ("
                (member.places) "): " (member.member) ", client " (member.client) ", host " (member.host)
                ". Their records are not sent. Remedy: stop it, or give it another group."
            }
        }
    }
}

fn numbers(view: &View<'_>, now_ms: i64) -> Markup {
    let lag: u64 = view.topics.values().map(|topic| topic.lag).sum();
    let oldest = view
        .topics
        .values()
        .map(|t| t.oldest_unfinished_age_ms)
        .max();
    let entry = |name: &str, value: Markup| html! { div { dt { (name) } dd { (value) } } };
    html! {
        dl {
            (entry("Version", html! { (view.version) }))
            (entry("Up for", html! { (span(view.uptime_ms)) }))
            (entry("Phase", html! { (view.phase) }))
            (entry("Group", html! { (view.group) }))
            (entry("In flight", html! { (view.in_flight) " of " (view.in_flight_max) }))
            (entry("Unfinished", html! { (view.unfinished) }))
            (entry("Lag", html! { (lag) }))
            (entry("Oldest unfinished", html! { (span(oldest.unwrap_or_default())) }))
            (entry("Last progress", html! { (span(since(view.last_progress, now_ms))) " ago" }))
            (entry("Tenants failing", html! { (view.tenants.failing) }))
            (entry("Tenants at their limit", html! { (view.tenants.limited) }))
            (entry("Partitions", html! { (view.partitions.assigned) }))
        }
    }
}

fn tenants(view: &View<'_>, now_ms: i64) -> Markup {
    let tenants = &view.tenants;
    let more = tenants.failing.saturating_sub(tenants.worst.len());
    html! {
        h2 { "Failing tenants" }
        @if tenants.worst.is_empty() {
            p { "None. A failure of the egress proxy is held against no tenant." }
        } @else {
            div class="wide" {
                table {
                    tr { th { "Tenant" } th { "Class" } th { "Last error" } th { "Since" } th.n { "Failures" } }
                    @for failing in &tenants.worst { (failing_row(failing, now_ms)) }
                }
            }
            @if more > 0 { p { (more) " more, which fail for a shorter time." } }
        }
    }
}

fn failing_row(failing: &FailingView<'_>, now_ms: i64) -> Markup {
    html! {
        tr {
            td.t { (failing.tenant) }
            td { (failing.class) }
            td.t { (failing.error) br; small { (failing.advice) } }
            td { (span(since(failing.since, now_ms))) br; small { (moment(failing.since)) } }
            td.n { (failing.failures) }
        }
    }
}

/// Nothing where each entry of the tenants topic is in force, as in most services.
fn refused(view: &View<'_>) -> Markup {
    let tenants = &view.tenants;
    let more = tenants
        .refused
        .saturating_sub(tenants.refused_entries.len());
    html! {
        @if !tenants.refused_entries.is_empty() {
            h2 { "Refused entries of the tenants topic" }
            p { "The last good entry of each tenant stays in force." }
            div class="wide" {
                table {
                    tr { th { "Tenant" } th { "Mistake" } }
                    @for entry in &tenants.refused_entries {
                        tr { td.t { (entry.tenant) } td.t { (entry.mistake) } }
                    }
                }
            }
            @if more > 0 { p { (more) " more." } }
        }
    }
}

fn delays(delays: &[DelayView], now_ms: i64) -> Markup {
    html! {
        h2 { "Waiting for their next attempt" }
        div class="wide" {
            table {
                tr { th { "Delay" } th.n { "Waiting" } th { "Next due" } th { "Topic" } }
                @for delay in delays {
                    tr {
                        td { (delay.delay) }
                        td.n { (delay.waiting) }
                        td { (next_due(delay, now_ms)) }
                        td.t { (delay.topic) }
                    }
                }
            }
        }
    }
}

fn next_due(delay: &DelayView, now_ms: i64) -> Markup {
    match delay.next_due {
        None => html! { "–" },
        Some(due) if due <= now_ms => html! { "now" },
        Some(due) => html! { "in " (span(since(now_ms, due))) br; small { (moment(due)) } },
    }
}

fn partitions(partitions: &PartitionsView) -> Markup {
    let rows = html! {
        div class="wide" {
            table {
                tr {
                    th { "Topic" } th.n { "Partition" } th { "State" }
                    th.n { "Committed from" } th.n { "Position" } th.n { "Log end" }
                    th.n { "Lag" } th.n { "Oldest unfinished" }
                }
                @for partition in &partitions.each { (partition_row(partition)) }
            }
        }
    };
    html! {
        h2 { "Partitions" }
        @for stopped in &partitions.stopped {
            p class="state bad" { (stopped.topic) "/" (stopped.partition) ": " (stopped.why) }
        }
        @if partitions.each.is_empty() {
            p { "None: no partition is assigned to this replica." }
        } @else if partitions.each.len() > ROWS_OPEN_MAX {
            details { summary { (partitions.each.len()) " partitions" } (rows) }
        } @else {
            (rows)
        }
    }
}

fn partition_row(partition: &PartitionView) -> Markup {
    html! {
        tr class=[(partition.state == "stopped").then_some("bad")] {
            td.t { (partition.topic) }
            td.n { (partition.partition) }
            td { (partition.state) }
            td.n { (partition.base) }
            td.n { (partition.next) }
            td.n { (partition.log_end) }
            td.n { (partition.lag) }
            td.n { (span(partition.oldest_unfinished_age_ms)) }
        }
    }
}

fn since(from_ms: i64, to_ms: i64) -> u64 {
    u64::try_from(to_ms.saturating_sub(from_ms)).unwrap_or(0)
}

/// Formats a duration in its two largest units.
fn span(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0 if ms == 0 => "0 s".to_owned(),
        0 => format!("{ms} ms"),
        1..60 => format!("{s} s"),
        60..3_600 => format!("{} min {} s", s / 60, s % 60),
        3_600..86_400 => format!("{} h {} min", s / 3_600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86_400, s / 3_600 % 24),
    }
}

/// Formats a moment in UTC.
fn moment(ms: i64) -> String {
    let ms = u64::try_from(ms).unwrap_or(0);
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_their_two_largest_units() {
        #[track_caller]
        fn check(ms: u64, text: &str) {
            assert_eq!(span(ms), text);
        }
        check(0, "0 s");
        check(999, "999 ms");
        check(59_999, "59 s");
        check(61_000, "1 min 1 s");
        check(3_600_000, "1 h 0 min");
        check(90_000_000, "1 d 1 h");
    }

    #[test]
    fn a_moment_is_in_utc() {
        assert_eq!(moment(1_606_188_550_000), "Tue, 24 Nov 2020 03:29:10 GMT");
        assert_eq!(moment(-1), "Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
