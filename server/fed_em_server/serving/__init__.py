"""A fitted mixture behind gRPC and HTTP: predict, score, impute and sample, with another version taking over while requests come in.

limits, refusals      how much is taken in at once, and what is said to the rest
gate                  so many at once, so many waiting, deadlines
served_model          a model that is loaded, warm and ready for rows
model_source          where it comes from: a folder, a stage of a registry
live_model            the one that answers now; another takes over
watcher               who is told: lines, and in serving_metrics counts
desk                  a request from its rows to its answer, whatever carried it
grpc_face, http_face  the two carriers
service               both, started and drained
"""
