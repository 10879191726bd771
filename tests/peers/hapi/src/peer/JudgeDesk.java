package peer;

import com.fasterxml.jackson.databind.ObjectMapper;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.util.Map;

/** Where tests ask what the judge saw (GET /judge) and order failures (POST /judge/fail?times=2&status=503). */
final class JudgeDesk extends HttpServlet {
    private final Judge judge;
    private final Store store;

    JudgeDesk(Judge judge, Store store) {
        this.judge = judge;
        this.store = store;
    }

    @Override
    protected void doGet(HttpServletRequest request, HttpServletResponse response) throws IOException {
        response.setContentType("application/json");
        new ObjectMapper().writeValue(response.getOutputStream(), Map.of(
                "received", judge.received.get(), "rejected", judge.rejected.get(), "resources", store.countByType()));
    }

    @Override
    protected void doPost(HttpServletRequest request, HttpServletResponse response) {
        if (!"/fail".equals(request.getPathInfo())) {
            response.setStatus(HttpServletResponse.SC_NOT_FOUND);
            return;
        }
        judge.failNext(Integer.parseInt(request.getParameter("times")), Integer.parseInt(request.getParameter("status")));
        response.setStatus(HttpServletResponse.SC_NO_CONTENT);
    }
}
