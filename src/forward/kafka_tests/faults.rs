//! Faults of a Kafka of several brokers, as its answers show them.

use super::*;
use rdkafka::mocking::MockCluster;

#[test]
fn leaders_that_move_and_a_broker_of_three_that_is_gone_for_a_while_cost_no_row() {
    for delivery in ["exactly_once", "at_least_once"] {
        let bench = bench().delivery(delivery);
        let cluster = MockCluster::new(3).unwrap();
        cluster.create_topic("metrics", PARTITIONS, 3).unwrap();
        let bench = Bench { draft: KafkaDraft { brokers: vec![cluster.bootstrap_servers()], ..bench.draft.clone() }, ..bench };
        let sink = bench.start();
        for round in 0..6 {
            bench.shard.emit(7, 500);
            for partition in 0..PARTITIONS {
                cluster.partition_leader("metrics", partition, Some(1 + (partition + round) % 3)).unwrap();
            }
            bench.shard.emit(7, 500);
            delivered(&bench, &sink);
        }
        // Its partitions have no leader as long as it is away: the mock elects none.
        cluster.broker_down(2).unwrap();
        bench.shard.emit(7, 500);
        std::thread::sleep(Duration::from_millis(500));
        assert!(view(&sink).position < bench.shard.last(), "one partition takes nothing");
        cluster.broker_up(2).unwrap();
        delivered(&bench, &sink);
        stop(sink);
        let kafka = cluster.bootstrap_servers();
        none_missing(&read_at(&kafka, "metrics", PARTITIONS, 6_500), 7, 6_500);
    }
}

/// Every error that a broker answers a produce request with, and that passes or not by itself.
#[test]
fn every_refusal_of_a_produce_request_is_survived() {
    use Wrong::*;
    let passing = [
        RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
        RD_KAFKA_RESP_ERR_INVALID_MSG,
        RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE,
        RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
        RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
        RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
        RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID,
        RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
        RD_KAFKA_RESP_ERR_POLICY_VIOLATION,
        RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED,
    ];
    for delivery in ["exactly_once", "at_least_once"] {
        let bench = bench().delivery(delivery);
        let sink = bench.start();
        for wrong in passing {
            bench.kafka.cluster().request_errors(Api::Produce, &[wrong]);
            bench.shard.emit(7, 70);
            let last = bench.shard.last();
            eventually(&format!("{delivery}: rows after {wrong:?}"), || (view(&sink).position == last).then_some(()));
        }
        assert_eq!(bench.shard.dead(), [], "{delivery}: none of them is a row's fault");
        stop(sink);
        let samples = 70 * passing.len() as u64;
        let got = bench.read(samples as usize);
        for (number, values) in counted(&got) {
            let expected = (samples - number).div_ceil(7);
            assert!((0..expected).all(|wanted| values.contains(&wanted)), "{delivery}: series {number}");
        }
    }
}

/// librdkafka (2.12) waits for a coordinator without an end: where the broker goes away between a refused `TxnOffsetCommit` and the next try, half a second later,
/// `send_offsets_to_transaction` returns when a broker is back, whatever time it was given.
#[test]
fn a_worker_whose_call_does_not_return_is_relieved_by_another() {
    let bench = bench();
    let mut sink = bench.start();
    bench.shard.emit(7, 70);
    delivered(&bench, &sink);
    let cluster = bench.kafka.cluster();
    cluster.request_errors(Api::TxnOffsetCommit, &[Wrong::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE]);
    bench.shard.emit(7, 70);
    std::thread::sleep(Duration::from_millis(250));
    cluster.broker_down(1).unwrap();
    // Each call is given two seconds.
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!((view(&sink).trouble, view(&sink).phase), (None, Phase::Running), "it cannot say that it stands still");
    sink.relieve(Duration::from_secs(5));
    assert_eq!(view(&sink).notes, [], "the process may have been stopped");
    sink.relieve(Duration::from_secs(5));
    trouble(&sink, "unreachable");
    assert_eq!(view(&sink).notes.iter().map(|note| note.code).collect::<Vec<_>>(), ["relieved"]);
    cluster.broker_up(1).unwrap();
    delivered(&bench, &sink);
    bench.shard.emit(7, 70);
    delivered(&bench, &sink);
    stop(sink);
    none_missing(&bench.read(210), 7, 210);
}

#[test]
fn every_refusal_of_a_transactions_calls_is_survived() {
    use Wrong::*;
    let bench = bench();
    let sink = bench.start();
    let calls = [
        (Api::InitProducerId, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE),
        (Api::FindCoordinator, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE),
        (Api::AddPartitionsToTxn, RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS),
        (Api::AddPartitionsToTxn, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART),
        (Api::AddOffsetsToTxn, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS),
        (Api::TxnOffsetCommit, RD_KAFKA_RESP_ERR_NOT_COORDINATOR),
        (Api::TxnOffsetCommit, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS),
        (Api::EndTxn, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS),
        (Api::EndTxn, RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS),
        (Api::EndTxn, RD_KAFKA_RESP_ERR__TRANSPORT),
        (Api::EndTxn, RD_KAFKA_RESP_ERR_INVALID_TXN_STATE),
    ];
    for (api, wrong) in calls {
        bench.kafka.cluster().request_errors(api, &[wrong]);
        bench.shard.emit(7, 70);
        let last = bench.shard.last();
        eventually(&format!("rows after {wrong:?}"), || (view(&sink).position == last).then_some(()));
        bench.kafka.cluster().clear_request_errors(api);
    }
    stop(sink);
    none_missing(&bench.read(770), 7, 770);
}
