//! The port to the Resource Groups Tagging API, in our own types.

use crate::aws_error::{AwsError, Kind};
use crate::config::EnrollTag;
use crate::queue::{QueueArn, TaggedQueue};
use crate::sender::Sender;
use aws_sdk_resourcegroupstagging::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_resourcegroupstagging::types::{ResourceTagMapping, TagFilter};
use aws_sdk_resourcegroupstagging::{Client, config};
use std::error::Error;
use std::sync::LazyLock;

/// The calls to the tagging API that enrollment by tag needs. The API knows only the function's own
/// account and region.
pub trait Tagging {
    /// A page of the queues with the enroll tag: the first, or the one to which this token leads. The API
    /// may still list a queue that was deleted recently.
    fn page(
        &self,
        tag: &EnrollTag,
        token: Option<&str>,
    ) -> impl Future<Output = Result<Page, TaggingError>>;

    /// The queues among these that have the enroll tag, or settings in other tags. One call per 100
    /// queues, none for no queue.
    fn tagged_among(
        &self,
        queues: &[QueueArn],
        tag: &EnrollTag,
    ) -> impl Future<Output = Result<Vec<TaggedQueue>, TaggingError>>;
}

/// A page of a list of queues.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Its queues. An empty page may be followed by others.
    pub queues: Vec<TaggedQueue>,
    /// The token that leads to the next page; `None` after the last.
    pub next: Option<String>,
}

/// Why the tags could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaggingError {
    /// The role lacks `tag:GetResources`.
    #[error("access denied; grant `tag:GetResources`: {0}")]
    AccessDenied(String),
    /// The tagging API failed, or refused the call for another reason.
    #[error("`tag:GetResources` failed: {0}")]
    Service(String),
    /// The tagging API could not be reached, or did not answer in time.
    #[error(
        "`tag:GetResources` failed: {0}; check the function's network, and in a VPC the endpoint for the tagging API (`tagging`)"
    )]
    Unreachable(String),
    /// The tagging API's answer makes no sense.
    #[error("`tag:GetResources` failed: {0}")]
    BadAnswer(String),
    /// The tagging API lists pages without end.
    #[error("`tag:GetResources` repeats its pages, or has more than {MAX_PAGES}")]
    Endless,
}

/// The tagging API itself. Its client is created on first use or by [`create`](Self::create);
/// without an enroll tag it is never needed.
pub struct TaggingClient {
    client: LazyLock<Client, Box<dyn FnOnce() -> Client + Send>>,
}

/// The most resources per `GetResources` call and answer.
const RESOURCES_PER_CALL: usize = 100;
/// The most pages of a list: 20,000 queues.
pub const MAX_PAGES: usize = 200;

impl TaggingClient {
    /// Prepares a client for the function's own region.
    pub fn new(config: &aws_config::SdkConfig) -> Self {
        let config = config::Builder::from(config).interceptor(Sender);
        Self {
            client: LazyLock::new(Box::new(move || Client::from_conf(config.build()))),
        }
    }

    /// Creates the client now, so that the first invocation does not have to.
    pub fn create(&self) {
        LazyLock::force(&self.client);
    }
}

impl Tagging for TaggingClient {
    async fn page(&self, tag: &EnrollTag, token: Option<&str>) -> Result<Page, TaggingError> {
        let filter = TagFilter::builder()
            .key(&tag.key)
            .set_values(tag.value.clone().map(|value| vec![value]))
            .build();
        let page = self
            .client
            .get_resources()
            // The service name. SQS has only one type of resource, and the API has no name for that
            // type.
            .resource_type_filters("sqs")
            .tag_filters(filter)
            .resources_per_page(100)
            .set_pagination_token(token.map(str::to_owned))
            .send()
            .await
            .map_err(aws_error)?;
        let resources = page.resource_tag_mapping_list().iter();
        Ok(Page {
            queues: resources.filter_map(|it| tagged_queue(it, tag)).collect(),
            next: page.pagination_token.filter(|next| !next.is_empty()),
        })
    }

    async fn tagged_among(
        &self,
        queues: &[QueueArn],
        tag: &EnrollTag,
    ) -> Result<Vec<TaggedQueue>, TaggingError> {
        let mut tagged = Vec::new();
        for queues in queues.chunks(RESOURCES_PER_CALL) {
            let arns = queues.iter().map(QueueArn::to_string).collect();
            let answer = self
                .client
                .get_resources()
                .set_resource_arn_list(Some(arns))
                .send()
                .await
                .map_err(aws_error)?;
            let resources = answer.resource_tag_mapping_list();
            tagged.extend(
                resources
                    .iter()
                    .filter_map(|resource| tagged_queue(resource, tag)),
            );
        }
        Ok(tagged)
    }
}

/// `None` if the resource is not a queue, or has neither the enroll tag nor settings.
fn tagged_queue(resource: &ResourceTagMapping, tag: &EnrollTag) -> Option<TaggedQueue> {
    let dlq = resource.resource_arn()?.parse().ok()?;
    let is_tag = |key: &str, value: &str| {
        key == tag.key && tag.value.as_ref().is_none_or(|wanted| value == wanted)
    };
    let tags = resource.tags();
    let enrolled = tags.iter().any(|found| is_tag(found.key(), found.value()));
    let settings = tags.iter().filter_map(|found| {
        let name = found.key().strip_prefix(&tag.key)?.strip_prefix(':')?;
        Some((name.to_owned(), found.value().to_owned()))
    });
    let settings: Vec<_> = settings.collect();
    (enrolled || !settings.is_empty()).then_some(TaggedQueue {
        dlq,
        enrolled,
        settings,
    })
}

fn aws_error<E>(error: SdkError<E>) -> TaggingError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let error = AwsError::new("the tagging API", &error);
    match error.kind {
        Kind::AccessDenied => TaggingError::AccessDenied(error.message),
        Kind::Unreachable => TaggingError::Unreachable(error.to_string()),
        Kind::BadAnswer => TaggingError::BadAnswer(error.to_string()),
        _ => TaggingError::Service(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
