"""The live page: a running deployment in the browser. It talks to the services by HTTP only; they do not know it."""
