"""Keep judged models: promotion by the gate, its history, the versions, their verification, sharing, logs of retraining and drift."""
