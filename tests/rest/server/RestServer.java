import java.net.InetSocketAddress;
import java.util.HashMap;
import java.util.Map;
import org.apache.hadoop.conf.Configuration;
import org.apache.iceberg.CatalogProperties;
import org.apache.iceberg.CatalogUtil;
import org.apache.iceberg.rest.RESTCatalogAdapter;
import org.apache.iceberg.rest.RESTCatalogServlet;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.handler.gzip.GzipHandler;
import org.eclipse.jetty.servlet.ServletContextHandler;
import org.eclipse.jetty.servlet.ServletHolder;

/**
 * Apache's reference server as its own main starts it, but on 127.0.0.1 and a free port, which it prints.
 *
 * <p>Takes the warehouse, the SQLite database that names the tables, and perhaps an S3 server, in whose buckets tables may
 * lie too.
 */
public class RestServer {
  public static void main(String[] args) throws Exception {
    Map<String, String> config = new HashMap<>();
    config.put(CatalogProperties.CATALOG_IMPL, "org.apache.iceberg.jdbc.JdbcCatalog");
    config.put(CatalogProperties.WAREHOUSE_LOCATION, args[0]);
    config.put(CatalogProperties.URI, "jdbc:sqlite:" + args[1]);
    // SQLite has one writer, and tells a second one that it is busy.
    config.put(CatalogProperties.CLIENT_POOL_SIZE, "1");
    if (args.length > 2) {
      config.put(CatalogProperties.FILE_IO_IMPL, "org.apache.iceberg.io.ResolvingFileIO");
      config.put("s3.endpoint", args[2]);
      config.put("s3.path-style-access", "true");
      config.put("s3.access-key-id", "test");
      config.put("s3.secret-access-key", "testtest");
      config.put("client.region", "us-east-1");
    }
    RESTCatalogAdapter adapter =
        new RESTCatalogAdapter(CatalogUtil.buildIcebergCatalog("rest", config, new Configuration()));
    ServletContextHandler context = new ServletContextHandler(ServletContextHandler.NO_SESSIONS);
    context.addServlet(new ServletHolder(new RESTCatalogServlet(adapter)), "/*");
    context.insertHandler(new GzipHandler());
    Server server = new Server(new InetSocketAddress("127.0.0.1", 0));
    server.setHandler(context);
    server.start();
    System.out.println("http://127.0.0.1:" + server.getURI().getPort());
    server.join();
  }
}
