"""An echo route in our own service, with all that stands around a route there; among the first, as those that answer
with a model are."""

from benchmarks.services.echo import echo
from service.main import Vitrine, application

application.post("/echo")(echo)
application.router.routes.insert(0, application.router.routes.pop())
__all__ = ["Vitrine"]
