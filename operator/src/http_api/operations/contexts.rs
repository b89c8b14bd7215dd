//! The operations on contexts.

use super::{Answer, Body, Content, Method, Operation, PAGE, Takes};
use crate::http_api::auth::{Act, Resource};
use crate::http_api::problem::Kind;
use crate::http_api::{contexts, submission, view};

const CONTEXTS: &str = "/api/v1/namespaces/{namespace}/contexts";
const CONTEXT: &str = "/api/v1/namespaces/{namespace}/contexts/{name}";

pub static OPERATIONS: &[Operation] = &[
    Operation {
        id: "listContexts",
        method: Method::Get,
        path: CONTEXTS,
        summary: "List contexts",
        about: "Contexts of a namespace, by name. Needs `list` on `computecontexts`.",
        resource: Resource::Contexts,
        act: Act::List,
        params: PAGE,
        takes: None,
        gives: &[Answer {
            status: 200,
            about: "A page of contexts",
            content: Content::Json(Body::of::<view::ContextPage>()),
        }],
        problems: &[Kind::ListExpired, Kind::Invalid],
        handler: |api, call| Box::pin(contexts::list(api, call)),
    },
    Operation {
        id: "createContext",
        method: Method::Post,
        path: CONTEXTS,
        summary: "Create a context",
        about: "Creates a context, a coordinator and workers that stay: queries run there that name it in \
            `spec.compute.contextRef`. It takes queries at once, which wait until it is up. Needs `create` on `computecontexts`.",
        resource: Resource::Contexts,
        act: Act::Create,
        params: &[],
        takes: Some(Takes { body: Body::of::<submission::ContextSubmission>(), is_keyed: false }),
        gives: &[Answer {
            status: 201,
            about: "The context is created",
            content: Content::Json(Body::of::<view::Context>()),
        }],
        problems: &[Kind::TooSlow, Kind::NameTaken, Kind::Conflict, Kind::TooLarge, Kind::MediaType, Kind::Invalid],
        handler: |api, call| Box::pin(contexts::create(api, call)),
    },
    Operation {
        id: "getContext",
        method: Method::Get,
        path: CONTEXT,
        summary: "Show a context",
        about: "A context with its spec and its status. Needs `get` on `computecontexts`.",
        resource: Resource::Contexts,
        act: Act::Get,
        params: &[],
        takes: None,
        gives: &[Answer { status: 200, about: "The context", content: Content::Json(Body::of::<view::Context>()) }],
        problems: &[],
        handler: |api, call| Box::pin(contexts::show(api, call)),
    },
    Operation {
        id: "deleteContext",
        method: Method::Delete,
        path: CONTEXT,
        summary: "Delete a context",
        about: "Deletes a context and ends its pods. Queries that run there wait for a context of that name and then run again. \
            Needs `delete` on `computecontexts`.",
        resource: Resource::Contexts,
        act: Act::Delete,
        params: &[],
        takes: None,
        gives: &[Answer { status: 202, about: "The context is going", content: Content::Nothing }],
        problems: &[Kind::Conflict],
        handler: |api, call| Box::pin(contexts::delete(api, call)),
    },
];
