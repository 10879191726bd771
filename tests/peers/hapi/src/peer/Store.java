package peer;

import ca.uhn.fhir.rest.param.TokenParam;
import ca.uhn.fhir.rest.server.exceptions.InvalidRequestException;
import ca.uhn.fhir.rest.server.exceptions.PreconditionFailedException;
import ca.uhn.fhir.util.UrlUtil;
import java.util.Arrays;
import java.util.Date;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.UUID;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.hl7.fhir.r4.model.Base;
import org.hl7.fhir.r4.model.IdType;
import org.hl7.fhir.r4.model.Identifier;
import org.hl7.fhir.r4.model.Reference;
import org.hl7.fhir.r4.model.Resource;

/** Every version of every resource, in memory. */
final class Store {
    /** "Patient/1" to its versions, oldest first. The lists are never changed, so a copy of the map is a snapshot. */
    private Map<String, List<Resource>> versions = new TreeMap<>();

    /** Runs the work alone; when it throws, nothing that it wrote remains. */
    synchronized <T> T allOrNothing(Supplier<T> work) {
        Map<String, List<Resource>> before = new TreeMap<>(versions);
        try {
            return work.get();
        } catch (RuntimeException failure) {
            versions = before;
            throw failure;
        }
    }

    /** An id that no resource bears yet. */
    static IdType newId(String type) {
        return new IdType(type, UUID.randomUUID().toString());
    }

    /** Keeps the resource as the next version under this id (type and id), and writes id and version into it. */
    synchronized IdType put(IdType id, Resource resource) {
        String key = id.toUnqualifiedVersionless().getValue();
        List<Resource> older = versions.getOrDefault(key, List.of());
        String version = String.valueOf(older.size() + 1);
        resource.setId(new IdType(id.getResourceType(), id.getIdPart(), version));
        resource.getMeta().setVersionId(version).setLastUpdated(new Date());
        versions.put(key, Stream.concat(older.stream(), Stream.of(resource)).toList());
        return (IdType) resource.getIdElement();
    }

    /** The version that the id names, or else the current one. */
    synchronized Optional<Resource> get(IdType id) {
        List<Resource> all = versions.getOrDefault(id.toUnqualifiedVersionless().getValue(), List.of());
        int wanted = id.hasVersionIdPart() ? id.getVersionIdPartAsLong().intValue() : all.size();
        return wanted >= 1 && wanted <= all.size() ? Optional.of(all.get(wanted - 1)) : Optional.empty();
    }

    synchronized Stream<Resource> current(String type) {
        return List.copyOf(versions.values()).stream()
                .map(all -> all.get(all.size() - 1))
                .filter(resource -> resource.fhirType().equals(type));
    }

    synchronized Map<String, Long> countByType() {
        return versions.values().stream()
                .collect(Collectors.groupingBy(all -> all.get(0).fhirType(), TreeMap::new, Collectors.counting()));
    }

    /** Conditional create (https://hl7.org/fhir/R4/http.html#ccreate): the one resource that answers the criteria. */
    synchronized Optional<Resource> match(String type, String criteria) {
        Map<String, String[]> query = UrlUtil.parseQueryString(criteria.substring(criteria.indexOf('?') + 1));
        if (!query.keySet().equals(Set.of("identifier")) || query.get("identifier").length != 1) {
            throw new InvalidRequestException("Criteria other than one identifier are not supported");
        }
        TokenParam token = new TokenParam();
        token.setValueAsQueryToken(null, "identifier", null, query.get("identifier")[0]);
        List<Resource> found = current(type).filter(resource -> bears(resource, token)).toList();
        if (found.size() > 1) {
            throw new PreconditionFailedException("The criteria select more than one " + type);
        }
        return found.stream().findFirst();
    }

    /** Whether one of its identifiers answers the token: system|value, |value, value or system| . */
    static boolean bears(Resource resource, TokenParam token) {
        return children(resource, "identifier", "masterIdentifier").map(Identifier.class::cast).anyMatch(identifier -> {
            boolean anySystem = token.getSystem() == null;
            boolean anyValue = token.getValue() == null || token.getValue().isEmpty();
            String system = Optional.ofNullable(identifier.getSystem()).orElse("");
            return (anySystem || token.getSystem().equals(system))
                    && (anyValue || token.getValue().equals(identifier.getValue()));
        });
    }

    /** The references of its subject, if it has one. */
    static Stream<Reference> subjects(Resource resource) {
        return children(resource, "subject").map(Reference.class::cast);
    }

    private static Stream<Base> children(Resource resource, String... names) {
        return Arrays.stream(names)
                .map(name -> resource.listChildrenByName(name, false))
                .filter(Objects::nonNull)
                .flatMap(Arrays::stream);
    }
}
