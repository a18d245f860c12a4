use crate::cloudwatch::{CloudWatch, CloudWatchClients};
use crate::config::EnrollTag;
use crate::sqs::{Sqs, SqsClients};
use crate::tagging::{Tagging, TaggingClient};
use crate::wire::{REGION, Wire};
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test]
async fn every_call_says_the_same_about_its_sender_in_one_header() {
    let wire = Wire::answering(|_| b"HTTP/1.1 500 -\r\ncontent-length: 0\r\n\r\n".to_vec());
    let config = wire.config();
    let sqs = SqsClients::new(&config, [REGION.to_owned()]);
    let dlq = "arn:aws:sqs:us-east-1:123456789012:orders-dlq";
    sqs.depth(&dlq.parse().unwrap()).await.unwrap_err();
    let cloudwatch = CloudWatchClients::new(&config, [REGION.to_owned()]);
    let until = Instant::now() + Duration::from_secs(5);
    cloudwatch.brakes(&["down".to_owned()], until).await;
    let tag = EnrollTag {
        key: "auto-redrive".to_owned(),
        value: None,
    };
    let tagging = TaggingClient::new(&config);
    tagging.page(&tag, None).await.unwrap_err();

    let requests = wire.requests();
    assert_eq!(requests.len(), 3);
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!("sqs-auto-redrive/{version} aws-sdk-rust");
    for request in requests {
        let about_sender = |name: &str| name.contains("agent") || name.starts_with("amz-sdk");
        let headers = request.headers.iter();
        let found: Vec<_> = headers.filter(|(name, _)| about_sender(name)).collect();
        assert_eq!(found, [&("user-agent".to_owned(), expected.clone())]);
    }
}
