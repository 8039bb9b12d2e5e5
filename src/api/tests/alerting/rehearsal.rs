//! Dry runs, which are begun and then asked for.

use super::*;

#[tokio::test]
async fn a_dry_run_is_begun_and_then_asked_for() {
    let api = api(StandInAlerting::default());
    let begun = said(&api, "POST", "/api/v1/alerts/dry-run", r#"{"policies":"stale: { after: 5m }","days":3}"#).await;
    assert_eq!(begun, (202, r#"{"id":"5f0c"}"#.to_owned()));
    for (body, status) in [(r#"{"policies":"x","days":0}"#, 400), (r#"{"policies":"x","day":1}"#, 400), (r#"{"policies":""}"#, 503)] {
        assert_eq!(said(&api, "POST", "/api/v1/alerts/dry-run", body).await.0, status, "{body}");
    }
    let goes_on = said(&api, "GET", "/api/v1/alerts/dry-run/5f0c", "").await;
    assert_eq!(goes_on, (200, r#"{"id":"5f0c","lived":10,"of":40,"result":null}"#.to_owned()));
    let done = ask_with(&api, "GET", "/api/v1/alerts/dry-run/d0e", "", &[]).await.json();
    assert_eq!((&done["lived"], &done["of"], &done["result"]["messages"]["proposed"]), (&40.into(), &40.into(), &4.into()));
    assert_eq!(said(&api, "GET", "/api/v1/alerts/dry-run/other", "").await.0, 404);
}
