"""An echo route in our own service, with all that stands around a route there."""

from benchmarks.services.echo import echo
from service.main import Vitrine, application

application.post("/echo")(echo)
__all__ = ["Vitrine"]
