"""The live page: a running deployment in the browser. It uses the services over HTTP only."""
