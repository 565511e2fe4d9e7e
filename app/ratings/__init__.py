"""The ratings that users gave: tables, migrations, revisions. It knows neither HTTP nor models."""
