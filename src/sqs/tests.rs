use super::*;

#[test]
fn url_is_in_the_queues_own_region_and_partition() {
    let url_of = |arn: &str| url(&arn.parse().unwrap());
    assert_eq!(
        url_of("arn:aws:sqs:eu-west-1:123456789012:orders-dlq"),
        "https://sqs.eu-west-1.amazonaws.com/123456789012/orders-dlq"
    );
    assert_eq!(
        url_of("arn:aws-cn:sqs:cn-north-1:123456789012:orders-dlq.fifo"),
        "https://sqs.cn-north-1.amazonaws.com.cn/123456789012/orders-dlq.fifo"
    );
}
