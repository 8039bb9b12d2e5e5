//! Whose a request is, from the socket to the shard: equal series of two tenants are two groups.

use super::*;
use crate::config::groups::Tenant;

async fn with(header: Option<&str>, required: bool) -> Bench {
    let tenant = Tenant { header: header.map(Into::into), required };
    Bench::new(|groups, limits| {
        groups.tenant = tenant;
        limits.groups = 4;
    })
    .await
}

impl Bench {
    async fn post_as(&self, path: &str, header: &str, labels: &[(&str, &str)]) -> Told {
        let mut packed = Vec::new();
        pack::pack_snappy(&request(Protocol::V1, &[labels]), &mut packed);
        let headers = [("content-encoding", "snappy"), ("X-Scope-OrgID", header)];
        self.send("POST", path, if header.is_empty() { &headers[..1] } else { &headers }, packed).await
    }
}

#[tokio::test]
async fn equal_series_of_two_tenants_are_two_groups_however_they_name_themselves() {
    let bench = with(Some("x-scope-orgid"), false).await;
    for (path, header) in
        [("/api/v1/write", "a"), ("/tenants/b/api/v1/write", ""), ("/insert/b/prometheus/api/v1/write", "b"), ("/api/v1/push", "")]
    {
        assert_eq!(bench.post_as(path, header, &A).await.status, 204, "{path}");
    }
    let offered = bench.offered();
    let groups: Vec<&str> = offered.iter().map(|(group, ..)| group.as_str()).collect();
    assert_eq!(groups, ["a::c", "b::c", "b::c", "c"]);
    assert!(offered.iter().all(|(_, replica, _, names)| replica == "a" && *names == ["__name__=up,cluster=c"]));
}

#[tokio::test]
async fn a_header_that_is_not_named_in_the_file_is_not_believed_and_a_label_never() {
    let bench = with(None, false).await;
    let labels = [("__name__", "up"), ("__replica__", "a"), ("__tenant__", "b"), ("cluster", "c")];
    assert_eq!(bench.post_as("/api/v1/write", "a", &labels).await.status, 204);
    let offered = bench.offered();
    assert_eq!((offered[0].0.as_str(), &offered[0].3), ("c", &vec!["__name__=up,cluster=c".to_owned()]));
}

#[tokio::test]
async fn hostile_tenants_are_told_and_nothing_of_them_is_taken() {
    let bench = with(Some("x-scope-orgid"), false).await;
    let long = "x".repeat(151);
    for header in ["a|b", "..", "a/b", "__mimir_cluster", "a b", &long] {
        let told = bench.post_as("/api/v1/write", header, &A).await;
        assert!(told.status == 400 && told.text.contains("a tenant has 1 to 150 letters"), "{header}: {} {}", told.status, told.text);
    }
    for path in
        ["/tenants/a%2Fb/api/v1/write", "/tenants//api/v1/write", "/tenants/a%00/api/v1/write", "/insert/1:x/prometheus/api/v1/write"]
    {
        let told = bench.post_as(path, "", &A).await;
        assert!(told.status == 400 && told.text.contains("the URL names"), "{path}: {}", told.text);
    }
    let told = bench.post_as("/tenants/a/api/v1/write", "b", &A).await;
    assert!(told.status == 400 && told.text.contains("leave one out"), "{}", told.text);
    assert_eq!(bench.offered().len(), 0);
    // However a group is called, it is not another tenant's.
    let spoof = [("__name__", "up"), ("__replica__", "a"), ("cluster", "a::c")];
    assert_eq!(bench.post_as("/api/v1/write", "", &spoof).await.status, 204);
    assert_eq!(bench.post_as("/groups/a::c/api/v1/write", "", &A).await.status, 204);
    assert!(bench.offered().iter().all(|(group, ..)| group == "::a::c"), "{:?}", bench.offered());
}

#[tokio::test]
async fn there_are_no_more_groups_than_there_may_be_however_many_tenants_come() {
    let bench = with(Some("x-scope-orgid"), false).await;
    let mut statuses = Vec::new();
    for number in 0..6 {
        statuses.push(bench.post_as("/api/v1/write", &format!("t{number}"), &A).await.status);
    }
    assert_eq!(statuses, [204, 204, 204, 204, 400, 400]);
}

#[tokio::test]
async fn a_tenant_may_be_required() {
    let bench = with(Some("x-scope-orgid"), true).await;
    let told = bench.post_as("/api/v1/write", "", &A).await;
    assert!(told.status == 400 && told.text.contains("it names no tenant"), "{}", told.text);
    assert_eq!(bench.post_as("/api/v1/write", "a", &A).await.status, 204);
    // The node's own samples are nobody's, and are taken.
    let mut packed = Vec::new();
    pack::pack_snappy(&request(Protocol::V2, &[&A]), &mut packed);
    assert_eq!(bench.ingest.take_own(packed.into(), "sluice").await, Ok(()));
}
