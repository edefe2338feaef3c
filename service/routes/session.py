"""`/login`, `/logout`, `/v1/whoami`: a browser's session. Event streams and images carry no bearer header, a cookie
does."""

import asyncio

from fastapi import APIRouter, Request, Response

from service.auth import COOKIE, NO_GOOD_KEY, Auth, cookie_of
from service.context import CallerOf, PartsOf
from service.errors import Unauthorized
from service.keys import SESSION_SECONDS
from service.routes.answers import refusals
from service.schemas.session import LoginRequest, WhoAmI

router = APIRouter(tags=["session"])


@router.post("/login", operation_id="log_in", status_code=204, responses=refusals(401))
async def login(body: LoginRequest, request: Request, parts: PartsOf) -> Response:
    """Trades an API key for a cookie that scripts can't read and other sites can't send."""
    token = await asyncio.to_thread(parts.keys.begin_session, body.key)
    if token is None:
        raise Unauthorized(NO_GOOD_KEY, "key")
    response = Response(status_code=204)
    secure = request.url.scheme == "https"
    seconds = int(SESSION_SECONDS)
    response.set_cookie(COOKIE, token, max_age=seconds, httponly=True, samesite="strict", secure=secure)
    return response


@router.post("/logout", operation_id="log_out", status_code=204)
async def logout(request: Request, parts: PartsOf) -> Response:
    """Ends the session of this browser."""
    if token := cookie_of(request.headers):
        await asyncio.to_thread(parts.keys.end_session, token)
        auth = request.app.state.auth
        assert isinstance(auth, Auth)
        auth.forget()
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


@router.get("/v1/whoami")
async def whoami(caller: CallerOf) -> WhoAmI:
    """Whose key this is, and what it may do."""
    return WhoAmI(owner=caller.owner, scopes=sorted(caller.scopes), key_id=caller.key_id)
