//! Every row of the table of answers.

use super::*;
use crate::ingest::lanes::Refusal;

#[track_caller]
fn check(outcome: Outcome, protocol: Option<Protocol>, status: u16, headers: &[(&str, &str)], text: &str) {
    let answer = answer(&outcome, Context { protocol, retries: 0, entropy: 0 });
    assert_eq!(answer.status, status, "{}", answer.text);
    let expected: Vec<(&str, String)> = headers.iter().map(|(name, value)| (*name, value.to_string())).collect();
    assert_eq!(answer.headers, expected);
    assert!(answer.text.contains(text), "{}", answer.text);
}

fn read(samples: u64, refused: Offenders, unable: Option<Unable>) -> Outcome {
    Outcome::Read { written: Written { samples, histograms: 2, exemplars: 1 }, refused, unable }
}

fn offenders() -> Offenders {
    let mut offenders = Offenders::default();
    offenders.count(Refusal::NoName, 0, 1);
    offenders.count(Refusal::NoName, 1, 2);
    offenders.show(&[], || "it has no metric name (__name__)".into());
    offenders
}

const V1: Option<Protocol> = Some(Protocol::V1);
const V2: Option<Protocol> = Some(Protocol::V2);
const ZEROS: [(&str, &str); 3] = [(WRITTEN[0], "0"), (WRITTEN[1], "0"), (WRITTEN[2], "0")];
const SEVEN: [(&str, &str); 3] = [(WRITTEN[0], "7"), (WRITTEN[1], "2"), (WRITTEN[2], "1")];

#[test]
fn not_post_is_405_and_names_post() {
    check(Outcome::Method, None, 405, &[("allow", "POST")], "POST");
}

#[test]
fn vmagents_handshake_is_answered() {
    check(Outcome::Handshake, None, 200, &[], "1");
}

#[test]
fn a_wrong_type_is_415_and_names_both_that_are_taken() {
    check(Outcome::ContentType("image/png".into()), None, 415, &[], "image/png");
    check(Outcome::ContentType("x".into()), None, 415, &[], "application/x-protobuf;proto=io.prometheus.write.v2.Request");
}

#[test]
fn a_wrong_encoding_is_415_and_names_both_that_are_taken() {
    check(Outcome::Encoding("gzip".into()), V1, 415, &[], "snappy (block format) or zstd");
    check(Outcome::Encoding("gzip".into()), V2, 415, &ZEROS, "gzip");
}

#[test]
fn too_large_is_413_packed_or_unpacked() {
    check(Outcome::PackedTooLarge { limit: 9 }, V1, 413, &[], "limits.packed_bytes");
    check(Outcome::TooLarge("4 GiB".into()), V2, 413, &ZEROS, "4 GiB");
}

#[test]
fn what_cannot_be_decoded_is_400_and_nothing_is_taken() {
    check(Outcome::Undecodable("bad snappy".into()), V1, 400, &[], "nothing was taken: bad snappy");
    check(Outcome::Undecodable("bad protobuf".into()), V2, 400, &ZEROS, "bad protobuf");
    check(Outcome::Broken, V1, 400, &[], "broke off");
}

#[test]
fn a_slow_body_is_408_and_the_connection_is_closed() {
    check(Outcome::Slow, V1, 408, &[("connection", "close")], "slowly");
}

#[test]
fn all_taken_is_204_without_a_body() {
    check(read(7, Offenders::default(), None), V1, 204, &[], "");
    let answer = answer(&read(7, Offenders::default(), None), Context { protocol: V2, retries: 0, entropy: 0 });
    assert!(answer.text.is_empty());
}

#[test]
fn counts_are_told_to_2_0_and_never_to_1_0() {
    check(read(7, Offenders::default(), None), V2, 204, &SEVEN, "");
    check(read(7, offenders(), None), V2, 400, &SEVEN, "");
    check(read(7, offenders(), None), V1, 400, &[], "");
}

#[test]
fn an_empty_request_is_204_with_zeros() {
    let empty = Outcome::Read { written: Written::default(), refused: Offenders::default(), unable: None };
    check(empty.clone(), V2, 204, &ZEROS, "");
    check(empty, V1, 204, &[], "");
}

#[test]
fn bad_data_is_400_with_who_why_and_how_many() {
    check(read(7, offenders(), None), V1, 400, &[], "3 refused, the rest was taken: 3 x no_name\n{}: it has no metric name");
}

#[test]
fn trouble_wins_over_bad_data() {
    let headers = [("retry-after", "1"), SEVEN[0], SEVEN[1], SEVEN[2]];
    check(read(7, offenders(), Some(Unable::DiskFull)), V2, 503, &headers, "disk is full");
}

#[test]
fn every_trouble_is_503_with_retry_after_and_never_429() {
    for unable in Unable::ALL {
        for outcome in [Outcome::Busy(*unable), read(0, Offenders::default(), Some(*unable))] {
            check(outcome, V1, 503, &[("retry-after", "1")], "send it again");
        }
    }
}

#[test]
fn retry_after_grows_with_each_try_and_is_spread() {
    let range = |retries| (retry_after(retries, 0), (0..100).map(|entropy| retry_after(retries, entropy)).max().unwrap());
    assert_eq!(range(0), (1, 3));
    assert_eq!(range(1), (2, 6));
    assert_eq!(range(3), (8, 24));
    assert_eq!(range(1000), (15, 45));
}

#[test]
fn an_answer_stays_short_however_much_is_wrong() {
    let mut many = Offenders::default();
    for _ in 0..10_000 {
        many.count(Refusal::LongValue, 0, 1);
        many.show(&[], || "it has a value that is far too long, and this text is, too".into());
    }
    let text = many.text();
    assert!(text.len() < 1100 && text.starts_with("10000 refused"), "{}", text.len());
}
