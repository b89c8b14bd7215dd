//! Who the caller is and what they may do, according to the cluster. Pure: `reviews` asks the questions.

use std::collections::BTreeMap;

use k8s_openapi::api::authentication::v1::TokenReviewStatus;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};

use super::problem::{Kind, Problem};

/// A caller whose token the cluster has authenticated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    pub name: String,
    pub uid: Option<String>,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The kind of object that is acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    Queries,
    Contexts,
    Pods,
}

impl Resource {
    /// Its API group and resource name.
    fn kind(self) -> (&'static str, &'static str) {
        match self {
            Resource::Queries => ("floe.dev", "distributedqueries"),
            Resource::Contexts => ("floe.dev", "computecontexts"),
            Resource::Pods => ("", "pods"),
        }
    }

    /// A single object of it, in words.
    pub fn word(self) -> &'static str {
        match self {
            Resource::Queries => "query",
            Resource::Contexts => "context",
            Resource::Pods => "pod",
        }
    }
}

/// The actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    List,
    Create,
    Get,
    /// Cancel, suspend and resume.
    Change,
    Delete,
    /// Reading the rows: a right of its own (`distributedqueries/result`), which seeing the query does not imply.
    Read,
    /// Reading the pods' logs (`pods/log`).
    Logs,
}

impl Act {
    pub fn verb(self) -> &'static str {
        match self {
            Act::List => "list",
            Act::Create => "create",
            Act::Get | Act::Read | Act::Logs => "get",
            Act::Change => "patch",
            Act::Delete => "delete",
        }
    }

    pub fn subresource(self) -> Option<&'static str> {
        match self {
            Act::Read => Some("result"),
            Act::Logs => Some("log"),
            Act::List | Act::Create | Act::Get | Act::Change | Act::Delete => None,
        }
    }
}

/// A question to the cluster's authorizer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    pub user: User,
    pub resource: Resource,
    pub act: Act,
    pub namespace: String,
    /// `None`: about the whole namespace.
    pub name: Option<String>,
}

impl Question {
    pub fn review(&self) -> SubjectAccessReview {
        let extra = &self.user.extra;
        let (group, resource) = self.resource.kind();
        let spec = SubjectAccessReviewSpec {
            user: Some(self.user.name.clone()),
            uid: self.user.uid.clone(),
            groups: (!self.user.groups.is_empty()).then(|| self.user.groups.clone()),
            extra: (!extra.is_empty()).then(|| extra.clone()),
            resource_attributes: Some(ResourceAttributes {
                group: Some(group.to_owned()),
                version: Some(if group.is_empty() { "v1" } else { "v1alpha1" }.to_owned()),
                resource: Some(resource.to_owned()),
                subresource: self.act.subresource().map(str::to_owned),
                verb: Some(self.act.verb().to_owned()),
                namespace: Some(self.namespace.clone()),
                name: self.name.clone(),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        };
        SubjectAccessReview { spec, ..SubjectAccessReview::default() }
    }

    fn words(&self) -> String {
        let (_, kind) = self.resource.kind();
        let resource = match self.act.subresource() {
            Some(part) => format!("{kind}/{part}"),
            None => kind.to_owned(),
        };
        let name = self.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        format!("{} {resource}{name} in namespace {}", self.act.verb(), self.namespace)
    }
}

/// A question that was answered with yes. Only `decide` makes one; acting with the operator's rights requires one.
#[derive(Debug)]
pub struct Allowed(Question);

impl Allowed {
    pub fn user(&self) -> &User {
        &self.0.user
    }

    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// Name of the object that it is about.
    pub fn name(&self) -> &str {
        self.0.name.as_deref().unwrap_or_default()
    }

    pub fn question(&self) -> &Question {
        &self.0
    }
}

/// Returns the user of a token. The cluster must have authenticated it, and for one of these audiences.
pub fn identify(status: Option<&TokenReviewStatus>, audiences: &[String]) -> Result<User, Problem> {
    let refuse = |why: &str| Err(Problem::new(Kind::Unauthenticated, why));
    let Some(status) = status else { return refuse("the cluster says nothing about this token") };
    if status.authenticated != Some(true) {
        let option = audiences.first().map(|one| format!(" --audience {one}")).unwrap_or_default();
        let why = format!(
            "the cluster does not know this token: it may have expired, or be for somebody else; get a new one (`kubectl create \
             token NAME{option}`)"
        );
        return refuse(&why);
    }
    let told = status.audiences.as_deref().unwrap_or_default();
    // An authenticator that does not support audiences returns none; the token is then for the API server itself.
    if !audiences.is_empty() && !told.iter().any(|one| audiences.contains(one)) {
        return refuse(&format!("this token is not for Floe: get one with `--audience {}`", audiences[0]));
    }
    let Some(user) = status.user.as_ref().filter(|user| user.username.as_ref().is_some_and(|name| !name.is_empty()))
    else {
        return refuse("the cluster names no user for this token");
    };
    Ok(User {
        name: user.username.clone().unwrap_or_default(),
        uid: user.uid.clone(),
        groups: user.groups.clone().unwrap_or_default(),
        extra: user.extra.clone().unwrap_or_default(),
    })
}

/// Whether a review allows the action.
pub fn allows(status: Option<&SubjectAccessReviewStatus>) -> bool {
    status.is_some_and(|status| status.allowed && status.denied != Some(true))
}

pub fn decide(question: Question, allowed: bool) -> Result<Allowed, Problem> {
    match allowed {
        true => Ok(Allowed(question)),
        false => {
            let detail = format!("{} may not {}: a Role must allow it", question.user.name, question.words());
            Err(Problem::new(Kind::Forbidden, detail))
        }
    }
}

/// Returns the token of an `Authorization` header.
pub fn bearer(header: Option<&str>) -> Result<&str, Problem> {
    let refuse = |why| Problem::new(Kind::Unauthenticated, why);
    let header = header.ok_or_else(|| refuse("send a Kubernetes token: `Authorization: Bearer TOKEN`"))?;
    let (scheme, token) = header.split_once(' ').unwrap_or((header, ""));
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.len() > MAX_TOKEN_BYTES {
        return Err(refuse("the Authorization header must be `Bearer TOKEN`"));
    }
    Ok(token)
}

const MAX_TOKEN_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::authentication::v1::UserInfo;

    fn known(name: &str, audiences: &[&str]) -> TokenReviewStatus {
        TokenReviewStatus {
            authenticated: Some(true),
            user: Some(UserInfo { username: Some(name.into()), groups: Some(vec!["g".into()]), ..UserInfo::default() }),
            audiences: (!audiences.is_empty()).then(|| audiences.iter().map(|one| (*one).to_owned()).collect()),
            ..TokenReviewStatus::default()
        }
    }

    #[test]
    fn a_token_is_somebodys_only_if_the_cluster_says_so() {
        let (own, any) = (["floe".to_owned()], []);
        assert_eq!(identify(Some(&known("ann", &[])), &any).unwrap().name, "ann");
        assert_eq!(identify(Some(&known("ann", &["floe", "x"])), &own).unwrap().groups, ["g"]);
        let unsure = TokenReviewStatus { authenticated: None, ..known("ann", &[]) };
        let wrong = TokenReviewStatus { authenticated: Some(false), ..known("ann", &[]) };
        let nobody = TokenReviewStatus { user: None, ..known("ann", &[]) };
        for (status, audiences) in [
            (None, any.as_slice()),
            (Some(unsure), any.as_slice()),
            (Some(wrong), any.as_slice()),
            (Some(known("", &[])), any.as_slice()),
            (Some(known("ann", &["api"])), own.as_slice()),
            (Some(known("ann", &[])), own.as_slice()),
            (Some(nobody), any.as_slice()),
        ] {
            assert_eq!(identify(status.as_ref(), audiences).unwrap_err().kind, Kind::Unauthenticated, "{status:?}");
        }
    }

    #[test]
    fn only_a_clear_yes_allows() {
        let yes = SubjectAccessReviewStatus { allowed: true, ..SubjectAccessReviewStatus::default() };
        let both = SubjectAccessReviewStatus { denied: Some(true), ..yes.clone() };
        assert!(allows(Some(&yes)));
        assert!(!allows(Some(&both)) && !allows(None) && !allows(Some(&SubjectAccessReviewStatus::default())));
        let user = User { name: "ann".into(), ..User::default() };
        let resource = Resource::Queries;
        let question = Question { user, resource, act: Act::Read, namespace: "n".into(), name: Some("q".into()) };
        let refused = decide(question.clone(), false).unwrap_err();
        assert_eq!(refused.kind, Kind::Forbidden);
        assert!(refused.detail.starts_with("ann may not get distributedqueries/result q in namespace n: "));
        assert_eq!(decide(question, true).unwrap().name(), "q");
    }

    #[test]
    fn the_question_is_about_this_verb_namespace_and_name() {
        let user = User {
            name: "ann".into(),
            groups: vec!["g".into()],
            extra: [("scopes".to_owned(), vec!["few".to_owned()])].into(),
            ..User::default()
        };
        let (queries, contexts) = ((Resource::Queries, "distributedqueries"), (Resource::Contexts, "computecontexts"));
        for ((resource, kind), act, verb, part) in [
            (queries, Act::List, "list", None),
            (queries, Act::Create, "create", None),
            (queries, Act::Get, "get", None),
            (queries, Act::Change, "patch", None),
            (queries, Act::Delete, "delete", None),
            (queries, Act::Read, "get", Some("result")),
            (contexts, Act::List, "list", None),
            (contexts, Act::Delete, "delete", None),
            ((Resource::Pods, "pods"), Act::Logs, "get", Some("log")),
        ] {
            let question =
                Question { user: user.clone(), resource, act, namespace: "n".into(), name: Some("q".into()) };
            let spec = question.review().spec;
            let asked = spec.resource_attributes.unwrap();
            assert_eq!((asked.verb.as_deref(), asked.subresource.as_deref()), (Some(verb), part));
            assert_eq!(asked.resource.as_deref(), Some(kind));
            let group = if resource == Resource::Pods { ("", "v1") } else { ("floe.dev", "v1alpha1") };
            assert_eq!((asked.group.as_deref(), asked.version.as_deref()), (Some(group.0), Some(group.1)));
            assert_eq!((asked.namespace.as_deref(), asked.name.as_deref()), (Some("n"), Some("q")));
            assert_eq!((spec.user.as_deref(), spec.groups.as_deref()), (Some("ann"), Some(&["g".to_owned()][..])));
            assert_eq!(spec.extra.unwrap()["scopes"], ["few"], "what narrows a token goes along");
        }
    }

    #[test]
    fn a_header_has_one_token() {
        assert_eq!(bearer(Some("Bearer abc")).unwrap(), "abc");
        assert_eq!(bearer(Some("bearer  abc ")).unwrap(), "abc");
        let long = format!("Bearer {}", "a".repeat(MAX_TOKEN_BYTES + 1));
        for header in [None, Some("Basic abc"), Some("Bearer"), Some("Bearer "), Some(long.as_str())] {
            assert_eq!(bearer(header).unwrap_err().kind, Kind::Unauthenticated);
        }
    }
}
