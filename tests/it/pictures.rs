//! docs/startup.svg shows the last bench run. For docs/outage.svg see model.rs.

use std::fs::read_to_string;

#[test]
fn the_picture_of_the_start_shows_the_last_bench_run() {
    let results = read_to_string("bench/results.md").unwrap();
    let picture = read_to_string("docs/startup.svg").unwrap();
    let of_starts = |row: &&str| {
        let is_start = row.contains(": cold start to first answer, ms |");
        row.starts_with("| median") || (is_start && !row.contains("source facts"))
    };
    let rows: Vec<&str> = results.lines().filter(of_starts).collect();
    assert_eq!(rows.len(), 3, "{rows:?}");
    let data = format!("<metadata>\n{}\n</metadata>", rows.join("\n"));
    assert!(
        picture.contains(&data),
        "docs/startup.svg shows another bench run; run `make pictures`"
    );
    let peers: Vec<&str> = rows[0].split(" | ").collect();
    for row in &rows[1..] {
        for (peer, cell) in peers.iter().zip(row.split(" | ")) {
            if ["sqs-auto-redrive", "Node", "Python"].contains(peer) {
                let (value, times) = cell.split_once(' ').unwrap_or((cell, ""));
                let label = format!("{} ms {times}", value.trim_matches('*'));
                let drawn = format!(">{}<", label.trim_end());
                assert!(picture.contains(&drawn), "docs/startup.svg lacks: {drawn}");
            }
        }
    }
}
