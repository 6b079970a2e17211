"""A phone made of software: an adb daemon on 127.0.0.1 over a sandbox, with faults to order."""
